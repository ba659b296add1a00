"""Convolution plans by cuDNN's older interface: an algorithm's number a product."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from poseidon_caffe.backend.gpu.cudnn.choices import Choice
from poseidon_caffe.backend.gpu.cudnn.constants import (
    ActivationMode,
    MathType,
)
from poseidon_caffe.backend.gpu.cudnn.descriptors import (
    ActivationDescriptor,
    ConvolutionDescriptor,
    FilterDescriptor,
    one_per_channel,
)
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.library import AlgorithmTime
from poseidon_caffe.backend.gpu.cudnn.plan import Addresses, Direction, Request
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings

__all__ = ["LegacyPlan", "LegacyPlanner", "fastest"]

_IMPLICIT_PRECOMP_GEMM = 1
_UNSUPPORTED = range(2000, 4000)


@dataclass(frozen=True)
class _Functions:
    """A direction's functions.

    All take the operands in one pattern: first input, second input, convolution,
    result.  ``always`` are algorithms that hardly any shape lacks, the
    deterministic ones first.
    """

    run: str
    find: str
    ask: str
    count: str
    workspace: str
    algorithms: int
    always: tuple[tuple[int, bool], ...]


def _functions(name: str, algorithms: int, *always: tuple[int, bool]) -> _Functions:
    return _Functions(
        f"cudnnConvolution{name}",
        f"cudnnFindConvolution{name}AlgorithmEx",
        f"cudnnGetConvolution{name}Algorithm_v7",
        f"cudnnGetConvolution{name}AlgorithmMaxCount",
        f"cudnnGetConvolution{name}WorkspaceSize",
        algorithms,
        always,
    )


_BY_DIRECTION = {
    Direction.FORWARD: _functions("Forward", 8, (1, True), (0, True)),
    Direction.DATA: _functions("BackwardData", 6, (1, True), (0, False)),
    Direction.FILTER: _functions("BackwardFilter", 7, (1, True), (0, False)),
}


def _allowed(math: int, wanted: MathType) -> bool:
    """Whether data may be computed on with ``math``.

    Without TF32, float32 data must be computed on as such: nothing but `FMA` will
    do then, and data is never rounded to half.
    """
    if wanted is MathType.FMA:
        return math == wanted
    return math in set(MathType) - {MathType.TENSOR_OP_ALLOW_CONVERSION}


def fastest(
    times: Iterable[AlgorithmTime], settings: CudnnSettings, wanted: MathType
) -> Choice | None:
    """The first of the results (fastest first) that the settings allow."""
    for result in times:
        math = result.math_type
        if (
            result.status == 0
            and _allowed(math, wanted)
            and result.memory <= settings.workspace_limit
            and (not settings.deterministic or result.determinism)
        ):
            return Choice(result.algo, math, result.memory, float(result.time))
    return None


class LegacyPlan:
    """`Plan` by the older interface.

    Attributes:
        workspace: bytes of scratch memory of the algorithm.
        accumulates: always: the result is scaled by beta first.
        fuses: until the library refused to.
        algorithm: its number.
    """

    accumulates = True

    def __init__(self, handle: Handle, request: Request) -> None:
        self._handle, self._request = handle, request
        self._of = _BY_DIRECTION[request.direction]
        g, library, dtype = request.geometry, handle.library, request.dtype
        self.workspace = 0
        self.algorithm = 0
        self._wanted = handle.settings.math_type(dtype)
        self._filter = FilterDescriptor(
            library, dtype, g.w_shape, channels_last=request.channels_last
        )
        window = (g.pad, g.stride, g.dilation)
        self._convolution = ConvolutionDescriptor(
            library, dtype, window, g.group, self._wanted
        )
        x, y = handle.tensor(dtype, request.x), handle.tensor(dtype, request.y)
        w = self._filter.address
        # First input, second input, result: see `_Functions`.
        self._descriptors = {
            Direction.FORWARD: (x, w, y),
            Direction.DATA: (w, y, x),
            Direction.FILTER: (x, y, w),
        }[request.direction]
        self._one, self._zero = handle.factor(1.0, dtype), handle.factor(0.0, dtype)
        self.fuses = True
        self._activation: ActivationDescriptor | None = None

    def _pointers(self, at: Addresses) -> tuple[int, int, int]:
        return {
            Direction.FORWARD: (at.x, at.w, at.y),
            Direction.DATA: (at.w, at.y, at.x),
            Direction.FILTER: (at.x, at.y, at.w),
        }[self._request.direction]

    # -- choosing --------------------------------------------------------------------
    def take(self, choice: Choice) -> bool:
        """Use a choice if it can be; its workspace is asked for anew.

        It may come from a file, whatever that says of the arithmetic.
        """
        if choice.algorithm >= self._of.algorithms:
            return False
        if not _allowed(choice.math, self._wanted):
            return False
        self._convolution.set_math(choice.math)
        size = self._workspace_of(choice.algorithm)
        if size is None or size > self._handle.settings.workspace_limit:
            return False
        self.algorithm, self.workspace = choice.algorithm, size
        return True

    def _workspace_of(self, algorithm: int) -> int | None:
        """Bytes of scratch memory, None if the shape has no such algorithm.

        Whatever the library says then: not all of its refusals are "not supported".
        """
        first, second, result = self._descriptors
        size = self._handle.library.sizes()
        status = self._handle.attempt(
            self._of.workspace, first, second, self._convolution.address, result,
            algorithm, size,
        )  # fmt: skip
        return None if status else int(size[0])

    def ask(self) -> Choice | None:
        """What the library's heuristics think is fastest."""
        first, second, result = self._descriptors
        library, room = self._handle.library, self._room()
        times, found = library.algorithm_times(room), library.ints()
        works = self._handle.supported(
            self._of.ask, first, second, self._convolution.address, result,
            room, found, times,
        )  # fmt: skip
        return self._fastest(times[: found[0]]) if works else None

    def measure(self, at: Addresses) -> Choice | None:
        """What is fastest, by trying all; the result's memory is overwritten.

        None where that fails: the heuristics need no GPU, and what is really wrong
        is said when the product is computed.
        """
        first, second, result = self._descriptors
        a, b, c = self._pointers(at)
        library, room = self._handle.library, self._room()
        times, found = library.algorithm_times(room), library.ints()
        size = self._search_size()
        try:
            scratch = self._handle.device.allocate(size) if size else None
        except MemoryError:
            size, scratch = 0, None
        status = self._handle.attempt(
            self._of.find, first, a, second, b, self._convolution.address, result, c,
            room, found, times, scratch.ptr if scratch else None, size,
        )  # fmt: skip
        return None if status else self._fastest(times[: found[0]])

    def _fastest(self, times: Iterable[AlgorithmTime]) -> Choice | None:
        return fastest(times, self._handle.settings, self._wanted)

    def _room(self) -> int:
        count = self._handle.library.ints()
        self._handle.call(self._of.count, count)
        return max(int(count[0]), 1)

    def _search_size(self) -> int:
        """The most scratch memory that an allowed algorithm uses."""
        sizes = (self._workspace_of(number) for number in range(self._of.algorithms))
        limit = self._handle.settings.workspace_limit
        return max((size for size in sizes if size and size <= limit), default=0)

    def default(self) -> Choice | None:
        """The first algorithm that nearly always works and is allowed."""
        for number, deterministic in self._of.always:
            if deterministic or not self._handle.settings.deterministic:
                choice = Choice(number, self._wanted)
                if self.take(choice):
                    return choice
        return None

    # -- running ---------------------------------------------------------------------
    def run(self, at: Addresses, *, accumulate: bool = False) -> None:
        """Compute the product."""
        first, second, result = self._descriptors
        a, b, c = self._pointers(at)
        scratch = self._handle.workspace.address(self.workspace)
        self._handle.call(
            self._of.run, self._one, first, a, second, b, self._convolution.address,
            self.algorithm, scratch, self.workspace,
            self._one if accumulate else self._zero, result, c,
        )  # fmt: skip

    def run_fused(self, at: Addresses) -> bool:
        """y = relu?(conv(x, w) + bias) in one go, where the algorithm can."""
        relu = self._request.geometry.relu
        possible = relu == 0.0 or (
            # Without a ReLU the library allows this algorithm only.
            relu is None and self.algorithm == _IMPLICIT_PRECOMP_GEMM
        )
        if not (possible and self.fuses and at.bias):
            return False
        handle, dtype = self._handle, self._request.dtype
        if self._activation is None:
            mode = ActivationMode.IDENTITY if relu is None else ActivationMode.RELU
            self._activation = ActivationDescriptor(handle.library, mode)
        channels, axes = self._request.geometry.num_output, len(self._request.y.dims)
        bias = handle.tensor(dtype, one_per_channel(channels, axes))
        x, w, y = self._descriptors
        status = handle.attempt(
            "cudnnConvolutionBiasActivationForward", self._one, x, at.x, w, at.w,
            self._convolution.address, self.algorithm,
            handle.workspace.address(self.workspace), self.workspace,
            self._zero, y, at.y, bias, at.bias, self._activation.address, y, at.y,
        )  # fmt: skip
        if status and status not in _UNSUPPORTED:
            name = "cudnnConvolutionBiasActivationForward"
            raise handle.library.error(name, status)
        self.fuses = status == 0
        return self.fuses


class LegacyPlanner:
    """`Planner` by the older interface.

    Args:
        handle: the library on a device.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def plan(
        self,
        request: Request,
        at: Addresses,
        finish: Callable[[], None] | None = None,
    ) -> LegacyPlan | None:
        """A plan: as chosen before, else by measuring, heuristics, or default."""
        handle = self._handle
        plan = LegacyPlan(handle, request)
        key = request.key(handle.settings, "legacy")
        known = handle.choices.get(key)
        if known is not None and plan.take(known):
            return plan
        if handle.settings.autotune:
            measured = plan.measure(at)
            if measured is not None and plan.take(measured):
                handle.choices.put(key, measured)
                return plan
        asked = plan.ask()
        if asked is not None and plan.take(asked):
            return plan
        return plan if plan.default() is not None else None
