"""Every exception class of Poseidon, each with what it means.

A message says what went wrong, where (``file:line:column`` or the layer's
name), what was expected and received, and what to do about it.  Only the
command line turns an error into a line of text and an exit code.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "ClusterError",
    "DataError",
    "GpuError",
    "GraphError",
    "LayerError",
    "NumericsError",
    "ParseError",
    "PoseidonError",
    "ShapeError",
    "SnapshotError",
    "SolverError",
    "UsageError",
    "WeightsError",
]


class PoseidonError(RuntimeError):
    """Base of every error raised by Poseidon (pycaffe raised RuntimeError)."""


class UsageError(PoseidonError):
    """The command line or an API was given arguments that make no sense."""


class ParseError(PoseidonError):
    """A prototxt, protobuf or list file could not be read.

    Attributes:
        path: the file, or ``<string>``.
        line: 1-based line, 0 when unknown.
        column: 1-based column, 0 when unknown.
    """

    def __init__(
        self, message: str, *, path: str = "", line: int = 0, column: int = 0
    ) -> None:
        super().__init__(message)
        self.path = path
        self.line = line
        self.column = column


class GraphError(PoseidonError):
    """The layers do not connect: unknown bottom, duplicate top, bad sharing."""


class LayerError(PoseidonError):
    """A layer's parameters or bottoms are wrong, or its type is unknown."""


class ShapeError(LayerError):
    """The shapes that meet in a layer do not fit."""


class WeightsError(PoseidonError):
    """Stored weights do not fit the net; lists every mismatch at once."""


class DataError(PoseidonError):
    """A database, image or record is missing, empty or damaged."""


class SolverError(PoseidonError):
    """A solver setting is missing, unknown or contradicts another."""


class SnapshotError(PoseidonError):
    """A snapshot could not be written or read; older ones are untouched."""


class NumericsError(PoseidonError):
    """A blob became NaN or infinite; names the first one that did."""


class BackendError(PoseidonError):
    """A compute library is missing, too old, or reported a failure."""


class GpuError(BackendError):
    """A GPU, its driver or CuPy is missing, unfit, busy or has no memory left."""


class ClusterError(PoseidonError):
    """Ranks disagree, one is silent or gone, or messages fail; names the rank."""
