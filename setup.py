"""Build step: compile ``proto/caffe.proto`` to a descriptor set.

Everything else is in ``setup.cfg``.  The descriptor set is written into the
source tree, so that editable installs, wheels and archives all find it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PROTO = ROOT / "proto" / "caffe.proto"
DESCRIPTORS = ROOT / "poseidon_caffe" / "schema" / "caffe.desc"


def compile_schema(proto: Path = PROTO, descriptors: Path = DESCRIPTORS) -> bool:
    """Compile ``proto`` unless ``descriptors`` is newer already.

    The file is written whole or not at all.

    Returns:
        Whether the compiler ran.

    Raises:
        RuntimeError: there is no compiler, or it refused the file; its messages
            are on stderr.
    """
    if descriptors.exists() and descriptors.stat().st_mtime >= proto.stat().st_mtime:
        return False
    # Not needed (and perhaps not installed) where nothing is to be compiled.
    try:
        from grpc_tools import protoc
    except ImportError as error:
        raise RuntimeError(
            f"{proto}: to compile it, pip install grpcio-tools"
        ) from error

    descriptors.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=descriptors.parent) as scratch:
        fresh = Path(scratch) / descriptors.name
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={proto.parent}",
                f"--descriptor_set_out={fresh}",
                proto.name,
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc could not compile {proto} (status {status})")
        fresh.replace(descriptors)
    return True


class BuildWithSchema(build_py):
    """Compiles the schema before the package's files are gathered."""

    def run(self) -> None:
        """Compile, then build as usual."""
        compile_schema()
        super().run()


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithSchema})
