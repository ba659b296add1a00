"""Writing snapshots: three files, each whole or not at all, in a safe order.

All three are complete in temporary files before the first is renamed, so a full
disk leaves what was there.  The model is renamed first, then the sidecar with both
checksums, the solverstate last: whatever moment the process dies, a snapshot whose
files agree with its sidecar is whole, and any other is not taken.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.net.net import Net
from poseidon_caffe.schema.atomic import atomic_path, atomic_write
from poseidon_caffe.solver.numerics import bad_parameter
from poseidon_caffe.solver.sidecar import FileMark, Sidecar, mark_of
from poseidon_caffe.solver.state_file import StateFile, write_state_file

__all__ = [
    "SIDECAR_SUFFIX",
    "SnapshotPaths",
    "probe_prefix",
    "snapshot_prefix",
    "write_snapshot",
]

SIDECAR_SUFFIX = ".poseidonstate"


@dataclass(frozen=True)
class SnapshotPaths:
    """The files of one snapshot, named as Caffe names them."""

    model: str
    state: str
    sidecar: str

    @classmethod
    def of(cls, prefix: str, iteration: int, *, is_hdf5: bool) -> SnapshotPaths:
        """Names for ``iteration`` below ``prefix``."""
        stem = f"{prefix}_iter_{iteration}"
        tail = ".h5" if is_hdf5 else ""
        return cls(
            f"{stem}.caffemodel{tail}",
            f"{stem}.solverstate{tail}",
            f"{stem}{SIDECAR_SUFFIX}",
        )


def snapshot_prefix(param: Any, path: str) -> str:
    """``snapshot_prefix``, with Caffe's rules for a missing one or a folder.

    Missing: the solver's own name without extension; a folder: that name in it.

    Args:
        param: the SolverParameter.
        path: the solver's file, "" when it has none.

    Raises:
        SnapshotError: neither is known.
    """
    prefix, file = str(param.snapshot_prefix), Path(path)
    if prefix and Path(prefix).is_dir():
        return str(Path(prefix, file.stem or "snapshot"))
    if prefix or path:
        return prefix or str(file.with_suffix(""))
    msg = "snapshot is wanted but snapshot_prefix is not set; add the field"
    raise SnapshotError(msg)


def probe_prefix(prefix: str) -> None:
    """Raise SnapshotError unless files can be made below ``prefix``."""
    folder = Path(prefix).parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        msg = (
            f'snapshot_prefix: "{prefix}": cannot write in the folder {folder}: '
            f"{error.strerror}; make the folder, or change the prefix"
        )
        raise SnapshotError(msg) from error


def write_snapshot(
    paths: SnapshotPaths,
    net: Net,
    state: StateFile,
    sidecar: Callable[[FileMark, FileMark], Sidecar],
    *,
    write_diff: bool = False,
) -> None:
    """Write all three files or none.

    Args:
        paths: where they shall stand.
        net: whose parameters are stored.
        state: contents of the solverstate.
        sidecar: makes the sidecar from the marks of model and state.
        write_diff: store gradients with the parameters (``snapshot_diff``).

    Raises:
        SnapshotError: the disk refused; nothing half-written is left.
        NumericsError: a parameter holds a NaN or infinity; nothing is written.
    """
    if (problem := bad_parameter(net)) is not None:
        raise problem
    is_hdf5 = paths.model.endswith(".h5")
    # The innermost block ends first: model, sidecar, state are renamed in this order.
    with (
        _staged(paths.state) as state_temporary,
        _staged(paths.sidecar) as sidecar_temporary,
        _staged(paths.model) as model_temporary,
    ):
        save = net.save_hdf5 if is_hdf5 else net.save
        save(model_temporary, write_diff=write_diff)
        write_state_file(state_temporary, state, is_hdf5=is_hdf5)
        contents = sidecar(
            mark_of(model_temporary, Path(paths.model).name),
            mark_of(state_temporary, Path(paths.state).name),
        )
        # On the disk before anything is renamed, as the two others are by now.
        atomic_write(sidecar_temporary, contents.to_json().encode())
        _retire_bare_pair(paths)


@contextlib.contextmanager
def _staged(path: str) -> Iterator[Path]:
    """`atomic_path` whose errors name the final file."""
    temporary: Path | None = None
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except SnapshotError as error:
        if temporary is not None and str(temporary) in str(error):
            text = str(error).replace(str(temporary), path)
            raise SnapshotError(text) from error
        raise


def _retire_bare_pair(paths: SnapshotPaths) -> None:
    """Remove a solverstate without sidecar that this snapshot replaces.

    Dying between two renames would else leave an old state beside a new model, with
    no checksum to tell.
    """
    if not Path(paths.sidecar).exists():
        Path(paths.state).unlink(missing_ok=True)
