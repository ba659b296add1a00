"""oneDNN by ctypes: with `dnnl_library`, all that knows the library's C interface.

Everything above it deals in `Desc` (a memory descriptor), `Attr` and `Primitive`.
A call costs a few microseconds; ctypes releases the GIL while a primitive runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from poseidon_caffe.backend.cpu.dnnl_library import (
    Alg,
    Arg,
    ExecArg,
    Library,
    Owned,
    Prop,
    Query,
    c_argument,
    dims,
    open_library,
)
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = [
    "ANY",
    "Alg",
    "Arg",
    "Attr",
    "Desc",
    "Dnnl",
    "Memory",
    "PostOp",
    "Primitive",
    "Prop",
    "Query",
    "load",
]

_OK, _UNIMPLEMENTED = 0, 3
_DTYPES = {"float32": 3, "int32": 4, "int8": 5, "uint8": 6}
_TAG_ANY = 1
ANY = "any"


class Desc(Owned):
    """A memory descriptor; ``size_bytes`` is what its memory takes."""

    __slots__ = ("size_bytes",)

    def __init__(self, handle: int | None, library: Dnnl) -> None:
        super().__init__(handle, library.lib.dnnl_memory_desc_destroy)
        self.size_bytes = int(library.lib.dnnl_memory_desc_get_size(handle))


class PostOp(NamedTuple):
    """What to do with a result: a function of it, or combine it with an operand.

    The operand of the post-op at index i is ``Arg.POST_OP * (i + 1) | Arg.SRC_1``.
    """

    alg: Alg
    operand: Desc | None = None
    alpha: float = 0.0
    beta: float = 0.0


class Attr(Owned):
    """Primitive attributes: user scratchpad, optional post-operations."""

    __slots__ = ()


class PrimitiveDesc(Owned):
    """A primitive descriptor: an implementation chosen for given shapes."""

    __slots__ = ("library",)

    def __init__(self, handle: int | None, library: Dnnl) -> None:
        super().__init__(handle, library.lib.dnnl_primitive_desc_destroy)
        self.library = library

    def desc(self, what: Query) -> Desc:
        """A copy of one of the memory descriptors the implementation wants."""
        lib = self.library.lib
        found = lib.dnnl_primitive_desc_query_md(self.handle, int(what), 0)
        copy = ctypes.c_void_p()
        self.library.check(
            lib.dnnl_memory_desc_clone(ctypes.byref(copy), found), "query"
        )
        return Desc(copy.value, self.library)

    @property
    def implementation(self) -> str:
        """The library's name of the implementation, e.g. ``brgconv:avx512_core``."""
        text = ctypes.c_char_p()
        self.library.lib.dnnl_primitive_desc_query(
            self.handle, 8, 0, ctypes.byref(text)
        )
        return (text.value or b"").decode()


class Memory(Owned):
    """An operand: a descriptor and a pointer that may change between calls."""

    __slots__ = ("_library", "array")

    def __init__(self, desc: Desc, library: Dnnl) -> None:
        handle = ctypes.c_void_p()
        library.check(
            library.lib.dnnl_memory_create(
                ctypes.byref(handle), desc.handle, library.engine, None
            ),
            "memory",
        )
        super().__init__(handle.value, library.lib.dnnl_memory_destroy)
        self._library = library
        self.array: Array | None = None

    def point_to(self, array: Array) -> None:
        """Use the memory of ``array``, which is kept alive."""
        if array is self.array:
            return
        address = array.__array_interface__["data"][0]
        self._library.lib.dnnl_memory_set_data_handle(self.handle, address)
        self.array = array


class Primitive(Owned):
    """A compiled operation with its operands, ready to run."""

    __slots__ = ("_args", "_count", "_library", "_memories", "_scratch_bytes")

    def __init__(self, desc: PrimitiveDesc, operands: Mapping[int, Desc]) -> None:
        library = desc.library
        handle = ctypes.c_void_p()
        library.check(
            library.lib.dnnl_primitive_create(ctypes.byref(handle), desc.handle),
            "primitive",
        )
        super().__init__(handle.value, library.lib.dnnl_primitive_destroy)
        self._library = library
        self._memories = [Memory(d, library) for d in operands.values()]
        names = list(operands)
        scratch = desc.desc(Query.SCRATCHPAD)
        self._scratch_bytes = scratch.size_bytes
        if self._scratch_bytes:
            self._memories.append(Memory(scratch, library))
            names.append(int(Arg.SCRATCHPAD))
        self._count = len(names)
        self._args = (ExecArg * self._count)()
        for slot, name, memory in zip(self._args, names, self._memories, strict=True):
            slot.arg, slot.memory = int(name), memory.handle

    def __call__(self, *arrays: Array) -> None:
        """Run on ``arrays``, in the order the operands were given.

        Raises:
            BackendError: the library reports a failure.
        """
        library = self._library
        for memory, array in zip(self._memories, arrays, strict=False):
            if array is not memory.array:
                memory.point_to(array)
        if self._scratch_bytes:
            self._memories[-1].point_to(library.scratchpad(self._scratch_bytes))
        status = library.execute(self.handle, library.stream, self._count, self._args)
        if status != _OK:
            library.check(status, "execution")


class Dnnl:
    """The loaded library with one engine and one stream."""

    def __init__(self, library: Library) -> None:
        self.path, self.version = library.path, library.version
        self.lib = lib = library.lib
        self.engine = ctypes.c_void_p()
        self.check(lib.dnnl_engine_create(ctypes.byref(self.engine), 1, 0), "engine")
        self.stream = ctypes.c_void_p()
        self.check(
            lib.dnnl_stream_create(ctypes.byref(self.stream), self.engine, 1), "stream"
        )
        self.execute = lib.dnnl_primitive_execute
        self._local = threading.local()
        self._plain_attr = self.attr()

    def check(self, status: int, what: str) -> None:
        """Raise BackendError unless ``status`` is success."""
        if status != _OK:
            reason = "not implemented" if status == _UNIMPLEMENTED else "failed"
            msg = f"oneDNN {self.path}: {what} {reason} (status {status})"
            raise BackendError(msg)

    def set_threads(self, threads: int) -> None:
        """Let kernels that the calling thread runs use so many OpenMP threads.

        A library built without OpenMP keeps to its own number.
        """
        # A handle also finds the functions of what the library is linked with,
        # whichever OpenMP runtime that is.
        with contextlib.suppress(AttributeError):
            self.lib.omp_set_num_threads(threads)

    def scratchpad(self, size_bytes: int) -> Array:
        """Working memory of the calling thread, whose primitives run one at a time."""
        scratch: Array | None = getattr(self._local, "scratch", None)
        if scratch is None or scratch.size < size_bytes:
            raw = np.empty(size_bytes + 64, np.uint8)
            start = -raw.__array_interface__["data"][0] % 64
            self._local.scratch = scratch = raw[start : start + size_bytes]
        return scratch

    def desc(
        self,
        shape: Shape,
        strides: Sequence[int] | str,
        dtype: str = "float32",
    ) -> Desc:
        """A memory descriptor; ``strides`` in elements, or ANY to let it choose."""
        handle = ctypes.c_void_p()
        kind = _DTYPES[dtype]
        if isinstance(strides, str):
            status = self.lib.dnnl_memory_desc_create_with_tag(
                ctypes.byref(handle), len(shape), dims(shape), kind, _TAG_ANY
            )
        else:
            status = self.lib.dnnl_memory_desc_create_with_strides(
                ctypes.byref(handle), len(shape), dims(shape), kind, dims(strides)
            )
        self.check(status, f"descriptor of shape {shape}")
        return Desc(handle.value, self)

    def desc_of(self, array: Array) -> Desc:
        """The descriptor of an array as it lies in memory."""
        size = array.itemsize
        strides = [step // size for step in array.strides]
        # The stride of an axis of length 1 means nothing to NumPy but something here.
        for axis in reversed(range(array.ndim)):
            if array.shape[axis] == 1:
                strides[axis] = 1 if axis == 1 and array.ndim > 2 else max(strides)
        return self.desc(array.shape, strides, array.dtype.name)

    def attr(
        self,
        *,
        relu: float | None = None,
        sum_scale: float | None = None,
        scaled: Sequence[int] = (),
        then: Sequence[PostOp] = (),
    ) -> Attr:
        """Attributes: user scratchpad; then add the old output; then a ReLU.

        After these follow the post-operations ``then``.
        ``scaled`` operands are multiplied by factors given at run time, as
        operands ``Arg.SCALES | operand`` of one element each.
        """
        handle = ctypes.c_void_p()
        self.check(self.lib.dnnl_primitive_attr_create(ctypes.byref(handle)), "attr")
        attr = Attr(handle.value, self.lib.dnnl_primitive_attr_destroy)
        self.lib.dnnl_primitive_attr_set_scratchpad_mode(attr.handle, 1)
        set_scales = self.lib.dnnl_primitive_attr_set_scales_mask
        for operand in scaled:
            self.check(set_scales(attr.handle, int(operand), 0), "scale")
        if relu is None and sum_scale is None and not then:
            return attr
        ops = ctypes.c_void_p()
        self.lib.dnnl_post_ops_create(ctypes.byref(ops))
        if sum_scale is not None:
            self.lib.dnnl_post_ops_append_sum(ops, sum_scale, 0, 0)
        if relu is not None:
            self.lib.dnnl_post_ops_append_eltwise(ops, int(Alg.RELU), relu, 0.0)
        for op in then:
            self.check(self._append(ops, op), "post-op")
        self.check(
            self.lib.dnnl_primitive_attr_set_post_ops(attr.handle, ops), "post-op"
        )
        self.lib.dnnl_post_ops_destroy(ops)
        return attr

    def _append(self, ops: ctypes.c_void_p, op: PostOp) -> int:
        if op.operand is not None:
            handle = op.operand.handle
            return int(self.lib.dnnl_post_ops_append_binary(ops, int(op.alg), handle))
        append = self.lib.dnnl_post_ops_append_eltwise
        return int(append(ops, int(op.alg), op.alpha, op.beta))

    def describe(
        self, kind: str, *args: object, attr: Attr | None = None
    ) -> PrimitiveDesc:
        """A primitive descriptor: ``dnnl_<kind>_primitive_desc_create``.

        ``args`` follow the C order without the leading output and engine (reorder
        and concat differ and have methods of their own) and the trailing attribute.
        Descriptors go in as `Desc`, dimension lists as tuples, None as NULL.

        Raises:
            BackendError: the library has no implementation.
        """
        handle = ctypes.c_void_p()
        function = getattr(self.lib, f"dnnl_{kind}_primitive_desc_create")
        attr = attr or self._plain_attr
        status = function(
            ctypes.byref(handle),
            self.engine,
            *(c_argument(a) for a in args),
            ctypes.c_void_p(attr.handle),
        )
        self.check(status, kind)
        return PrimitiveDesc(handle.value, self)

    def reorder(self, src: Desc, dst: Desc, *, accumulate: bool = False) -> Primitive:
        """A copy that changes layout, or adds when ``accumulate``."""
        attr = self.attr(sum_scale=1.0) if accumulate else self._plain_attr
        handle = ctypes.c_void_p()
        status = self.lib.dnnl_reorder_primitive_desc_create(
            ctypes.byref(handle),
            ctypes.c_void_p(src.handle),
            self.engine,
            ctypes.c_void_p(dst.handle),
            self.engine,
            ctypes.c_void_p(attr.handle),
        )
        self.check(status, "reorder")
        desc = PrimitiveDesc(handle.value, self)
        return Primitive(desc, {Arg.SRC: src, Arg.DST: dst})

    def concat(self, srcs: Sequence[Desc], axis: int, dst: Desc) -> Primitive:
        """Joins its operands along ``axis``: ``run(*srcs, dst)``."""
        handle = ctypes.c_void_p()
        descs = (ctypes.c_void_p * len(srcs))(*(src.handle for src in srcs))
        status = self.lib.dnnl_concat_primitive_desc_create(
            ctypes.byref(handle),
            self.engine,
            ctypes.c_void_p(dst.handle),
            len(srcs),
            axis,
            descs,
            ctypes.c_void_p(self._plain_attr.handle),
        )
        self.check(status, "concat")
        operands = {int(Arg.MULTIPLE_SRC) + i: src for i, src in enumerate(srcs)}
        return Primitive(
            PrimitiveDesc(handle.value, self), {**operands, int(Arg.DST): dst}
        )

    def sgemm(
        self,
        a: Array,
        b: Array,
        c: Array,
        *,
        trans_a: bool,
        trans_b: bool,
        alpha: float,
        beta: float,
    ) -> None:
        """C = alpha op(A) op(B) + beta C, float32 matrices with contiguous rows."""
        m, n = c.shape
        k = a.shape[0] if trans_a else a.shape[1]
        status = self.lib.dnnl_sgemm(
            b"T" if trans_a else b"N",
            b"T" if trans_b else b"N",
            m, n, k, alpha,
            a.__array_interface__["data"][0], _row_step(a),
            b.__array_interface__["data"][0], _row_step(b),
            beta, c.__array_interface__["data"][0], n,
        )  # fmt: skip
        self.check(status, "sgemm")


def _row_step(matrix: Array) -> int:
    """Elements from row to row; NumPy's stride of a single row means nothing."""
    return int(max(matrix.strides[0] // matrix.itemsize, matrix.shape[1]))


@lru_cache(maxsize=1)
def load() -> Dnnl:
    """The process's one oneDNN: see `open_library`.

    Raises:
        BackendError: none can be loaded; says what was tried.
    """
    return Dnnl(open_library())
