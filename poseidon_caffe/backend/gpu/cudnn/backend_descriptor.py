"""Descriptors of cuDNN's graph interface: attributes set and got one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from poseidon_caffe.backend.gpu.cudnn.constants import ConvolutionMode, DataType
from poseidon_caffe.backend.gpu.cudnn.graph_constants import (
    Attribute,
    AttributeType,
    Heuristic,
    Kind,
    Pointwise,
)
from poseidon_caffe.backend.gpu.cudnn.library import CArray, Library

__all__ = ["BackendDescriptor"]

_ROOM = 64
_ENUM_TYPES = {
    DataType: AttributeType.DATA_TYPE,
    ConvolutionMode: AttributeType.CONVOLUTION_MODE,
    Heuristic: AttributeType.HEUR_MODE,
    Pointwise: AttributeType.POINTWISE_MODE,
}


class BackendDescriptor:
    """A descriptor that is described by attributes, then made final.

    It keeps those that it refers to alive.

    Attributes:
        address: of the descriptor; 0 once closed.
        kind: what it describes.

    Args:
        library: that makes it.
        kind: what it describes.
    """

    def __init__(self, library: Library, kind: Kind) -> None:
        self.address = 0
        self.kind = kind
        self._library = library
        self._held: list[BackendDescriptor] = []
        made = library.pointers()
        library.call("cudnnBackendCreateDescriptor", kind, made)
        self.address = int(made[0])

    # -- setting ---------------------------------------------------------------------
    def put(self, attribute: Attribute, kind: AttributeType, values: CArray) -> None:
        """Set an attribute to C values.

        Raises:
            BackendError: the library refuses.
        """
        self._library.call(
            "cudnnBackendSetAttribute", self.address, attribute, kind, len(values),
            values,
        )  # fmt: skip

    def longs(self, attribute: Attribute, *values: int) -> None:
        """Set 64-bit integers."""
        self.put(attribute, AttributeType.INT64, self._library.longs(values))

    def choose(
        self,
        attribute: Attribute,
        value: DataType | ConvolutionMode | Heuristic | Pointwise,
    ) -> None:
        """Set a member of an enum."""
        kind = _ENUM_TYPES[type(value)]
        self.put(attribute, kind, self._library.ints([value]))

    def real(self, attribute: Attribute, value: float, *, double: bool) -> None:
        """Set a real number in one of two precisions."""
        kind = AttributeType.DOUBLE if double else AttributeType.FLOAT
        self.put(attribute, kind, self._library.reals([value], double=double))

    def flag(self, attribute: Attribute, value: bool) -> None:  # noqa: FBT001
        """Set a truth value."""
        self.put(attribute, AttributeType.BOOLEAN, self._library.booleans([value]))

    def pointers(self, attribute: Attribute, *values: int | None) -> None:
        """Set addresses in device memory."""
        self.put(attribute, AttributeType.VOID_PTR, self._library.pointers(values))

    def handle(self, attribute: Attribute, address: int) -> None:
        """Set a ``cudnnHandle_t``."""
        self.put(attribute, AttributeType.HANDLE, self._library.pointers([address]))

    def refer(self, attribute: Attribute, *others: BackendDescriptor) -> None:
        """Set descriptors, which must be final."""
        addresses = self._library.pointers([other.address for other in others])
        self.put(attribute, AttributeType.BACKEND_DESCRIPTOR, addresses)
        self._held += others

    def finalize(self) -> BackendDescriptor:
        """Make it final; returns itself.

        Raises:
            BackendError: attributes are missing or contradict each other.
        """
        self._library.call("cudnnBackendFinalize", self.address)
        return self

    def finalizes(self) -> bool:
        """Likewise; False where the library does not support what is described."""
        return self._library.attempt("cudnnBackendFinalize", self.address) == 0

    # -- getting ---------------------------------------------------------------------
    def count(self, attribute: Attribute, kind: AttributeType) -> int:
        """How many elements an attribute has."""
        found = self._library.longs()
        self._library.call(
            "cudnnBackendGetAttribute", self.address, attribute, kind, 0, found, None
        )
        return int(found[0])

    def get(
        self, attribute: Attribute, kind: AttributeType, values: CArray
    ) -> Sequence[int]:
        """The elements of an attribute, at most as many as ``values`` has room for."""
        found = self._library.longs()
        self._library.call(
            "cudnnBackendGetAttribute", self.address, attribute, kind, len(values),
            found, values,
        )  # fmt: skip
        return list(values[: int(found[0])])

    def long(self, attribute: Attribute) -> int:
        """A 64-bit integer."""
        return int(self.get(attribute, AttributeType.INT64, self._library.longs())[0])

    def enums(
        self, attribute: Attribute, kind: AttributeType, most: int = _ROOM
    ) -> list[int]:
        """Members of an enum, as numbers; ``most`` at most."""
        # The library does not always say how many there are unless there is room.
        room = self._library.ints([0] * most)
        return [int(value) for value in self.get(attribute, kind, room)]

    def referred(
        self, attribute: Attribute, kind: Kind, most: int = _ROOM
    ) -> list[BackendDescriptor]:
        """Copies of the descriptors that an attribute refers to; ``most`` at most."""
        among = AttributeType.BACKEND_DESCRIPTOR
        made = [BackendDescriptor(self._library, kind) for _ in range(most)]
        if not made:
            return []
        room = self._library.pointers([each.address for each in made])
        return made[: len(self.get(attribute, among, room))]

    def close(self) -> None:
        """Destroy it; harmless when done before."""
        address, self.address = self.address, 0
        if address:
            self._library.attempt("cudnnBackendDestroyDescriptor", address)
        self._held.clear()

    def __del__(self) -> None:
        # At the interpreter's end the library's functions may be gone already.
        with contextlib.suppress(AttributeError, TypeError):
            self.close()
