"""Parameters in and out of a net: .caffemodel, .caffemodel.h5, other nets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import WeightsError
from poseidon_caffe.schema import hdf5
from poseidon_caffe.schema.binary import write_net
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.upgrade import read_weights
from poseidon_caffe.schema.wire import BlobArrays, array_to_blob, blob_to_array
from poseidon_caffe.types import Array, Shape

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = [
    "copy_hdf5",
    "copy_layers",
    "copy_trained",
    "save",
    "save_hdf5",
    "share_trained",
    "to_proto",
]

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def copy_trained(net: Net, source: Any) -> list[str]:
    """Load parameters by layer name from a file or a NetParameter.

    Returns:
        Names of source layers with parameters that ``net`` does not have.

    Raises:
        WeightsError: listing every parameter that does not fit; none is loaded then.
        ParseError: the file cannot be read.
    """
    if isinstance(source, (str, Path)):
        path = str(source)
        if path.endswith((".h5", ".hdf5")) or _holds_hdf5(path):
            return copy_hdf5(net, path)
        return copy_layers(net, read_weights(path).layer, path)
    return copy_layers(net, source.layer, "the given net")


def _holds_hdf5(path: str) -> bool:
    """By content, as Caffe looks; what cannot be read is complained of later."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE
    except OSError:
        return False


def copy_layers(net: Net, layers: Iterable[Any], origin: str) -> list[str]:
    """Load the blobs of LayerParameters by layer name; else as `copy_trained`.

    Args:
        net: whose parameters are set.
        layers: the stored layers.
        origin: what error texts call their source.
    """
    index = _first_of_each_name(net)
    problems: list[str] = []
    unused: list[str] = []
    copies: list[tuple[Blob, Array]] = []
    for layer in layers:
        if layer.name not in index:
            if layer.blobs:
                unused.append(layer.name)
            continue
        targets = net.layers[index[layer.name]].blobs
        if len(layer.blobs) != len(targets):
            problems.append(
                f"layer {layer.name} has {len(targets)} parameters, "
                f"the file has {len(layer.blobs)}"
            )
            continue
        for i, (proto, blob) in enumerate(zip(layer.blobs, targets, strict=True)):
            array = blob_to_array(proto)
            if _fits(proto, array.shape, blob.shape) and array.size == blob.count:
                copies.append((blob, array))
            else:
                problems.append(_mismatch(layer.name, i, blob.shape, array.shape))
    _refuse(problems, origin)
    for blob, array in copies:
        blob.mutable_cpu_data[...] = array.reshape(blob.shape)
        blob.touch()
    return unused


def _first_of_each_name(net: Net) -> dict[str, int]:
    """Layer indices by name; of layers with one name Caffe takes the first."""
    names = net.layer_names
    return {names[i]: i for i in reversed(range(len(names)))}


def _fits(proto: Any, stored: Shape, wanted: Shape) -> bool:
    """Whether a stored shape is the wanted one (old files pad to four axes)."""
    if stored == wanted:
        return True
    legacy = any(proto.HasField(f) for f in ("num", "channels", "height", "width"))
    if not legacy or len(wanted) > 4:
        return False
    return stored == (1,) * (4 - len(wanted)) + wanted


def _mismatch(layer: str, index: int, wanted: Shape, stored: Shape) -> str:
    return f"layer {layer}, parameter {index}: the net has {wanted}, the file {stored}"


def _refuse(problems: Sequence[str], origin: str) -> None:
    if problems:
        msg = (
            f"{origin}: {len(problems)} parameter(s) do not fit the net: "
            + "; ".join(problems)
            + ". To learn such a layer from scratch, rename it in the prototxt"
        )
        raise WeightsError(msg)


def copy_hdf5(net: Net, path: str) -> list[str]:
    """Load parameters from an HDF5 file; else as `copy_trained`."""
    stored = {layer.name: layer.data for layer in hdf5.read_net_hdf5(path)}
    problems: list[str] = []
    copies: list[tuple[Blob, Array]] = []
    shared = _repeated(net)
    for i, layer in enumerate(net.layers):
        arrays = stored.get(layer.name)
        if arrays is None:
            continue
        if len(arrays) > len(layer.blobs):
            problems.append(
                f"layer {layer.name} has {len(layer.blobs)} parameters, "
                f"the file {len(arrays)}"
            )
        for k, blob in enumerate(layer.blobs):
            array = arrays[k] if k < len(arrays) else None
            if array is None:
                if (i, k) not in shared:
                    problems.append(f"layer {layer.name}, parameter {k}: not in it")
            elif array.shape != blob.shape:
                problems.append(_mismatch(layer.name, k, blob.shape, array.shape))
            else:
                copies.append((blob, array))
    _refuse(problems, path)
    for blob, array in copies:
        blob.mutable_cpu_data[...] = array
        blob.touch()
    return [name for name in stored if name not in net.layer_names and stored[name]]


def _repeated(net: Net) -> set[tuple[int, int]]:
    """(layer, index) of parameters whose values another layer owns."""
    owners = {(slot.owner, slot.param_index) for slot in net.slots}
    return {
        (i, k)
        for i, layer in enumerate(net.layers)
        for k in range(len(layer.blobs))
        if (i, k) not in owners
    }


def share_trained(net: Net, other: Net) -> None:
    """Make ``net`` use ``other``'s parameters wherever layer names agree.

    Values are shared from now on, gradients are not.

    Raises:
        WeightsError: the nets are on different devices, or listing every parameter
            that does not fit.
    """
    _check_same_memory(net, other)
    index = _first_of_each_name(net)
    pairs = [
        (layer.name, net.layers[index[layer.name]].blobs, layer.blobs)
        for layer in other.layers
        if layer.name in index
    ]
    problems = [text for pair in pairs for text in _differences(*pair)]
    _refuse(problems, f"net {other.name}")
    for _, mine, theirs in pairs:
        for target, source in zip(mine, theirs, strict=True):
            target.share_data(source)
    for blob, owner in zip(net.params, net.param_owner, strict=True):
        if blob is not net.learnable[owner]:
            # Shared within the net under another shape: must follow its owner.
            blob.share_data(net.learnable[owner])


def _check_same_memory(net: Net, other: Net) -> None:
    """Refuse to let a device compute with the memory of another, or of the host."""
    mine, theirs = net.ops.memory, other.ops.memory
    if mine is not theirs and not (mine.is_host and theirs.is_host):
        msg = (
            "nets on different devices cannot share parameters: open both on one, or "
            "copy the parameters"
        )
        raise WeightsError(msg)


def _differences(
    layer: str, mine: Sequence[Blob], theirs: Sequence[Blob]
) -> Iterator[str]:
    """What keeps a layer's parameters from being shared."""
    if len(mine) != len(theirs):
        yield f"layer {layer} has {len(mine)} parameters, there it has {len(theirs)}"
        return
    for k, (target, source) in enumerate(zip(mine, theirs, strict=True)):
        if target.shape != source.shape:
            yield _mismatch(layer, k, target.shape, source.shape)


def to_proto(net: Net, *, write_diff: bool = False) -> Any:
    """The net with its parameters as a NetParameter, as Caffe's Net::ToProto."""
    out = NetParameter(name=net.name)
    for layer in net.layers:
        entry = out.layer.add()
        entry.CopyFrom(layer.param)
        del entry.blobs[:]
        for blob in layer.blobs:
            diff = blob.cpu_diff if write_diff else None
            entry.blobs.append(array_to_blob(blob.cpu_data, diff=diff))
    return out


def save(net: Net, path: str | Path, *, write_diff: bool = False) -> None:
    """Write a .caffemodel, whole or not at all.

    Raises:
        SnapshotError: the file cannot be written; an older one is untouched.
    """
    bare = NetParameter(name=net.name)
    bare.layer.extend(layer.param for layer in net.layers)
    arrays = [
        [
            BlobArrays(b.cpu_data, b.cpu_diff if write_diff else None)
            for b in layer.blobs
        ]
        for layer in net.layers
    ]
    write_net(path, bare, arrays)


def save_hdf5(net: Net, path: str | Path, *, write_diff: bool = False) -> None:
    """Write a .caffemodel.h5, whole or not at all; shared parameters once."""
    shared = _repeated(net)
    stored = [
        hdf5.LayerArrays(
            layer.name,
            tuple(
                None if (i, k) in shared else blob.cpu_data
                for k, blob in enumerate(layer.blobs)
            ),
            tuple(blob.cpu_diff for blob in layer.blobs) if write_diff else (),
        )
        for i, layer in enumerate(net.layers)
    ]
    hdf5.write_net_hdf5(path, stored, write_diff=write_diff)
