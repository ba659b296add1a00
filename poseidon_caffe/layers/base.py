"""The layer contract: Caffe's, with everything a layer needs handed to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, ClassVar, Protocol

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.types import Array, JsonObject, Phase, Shape, Shard, fnv1a

__all__ = ["Example", "Layer", "LayerContext", "LossLayer", "Pool", "Storage"]


class Storage(Enum):
    """What a layer's bottoms and tops are stored in where 16 bits are asked for.

    FLOAT: in float32 always, as labels, losses and what the host reads are.
    HALF: in 16 bits, which it is much faster with.
    BOTTOM: in 16 bits if its bottoms are.
    MOVED: likewise; but it changes no numbers, so if its readers agree, as they want.
    """

    FLOAT = auto()
    HALF = auto()
    BOTTOM = auto()
    MOVED = auto()


class Pool(Protocol):
    """Adds numbers up over all workers."""

    def sum(self, values: Array) -> None:
        """Replace ``values`` by their sum over all workers, the same bits on each.

        Blocks until every worker has made the same call, so all make theirs in the
        same order.

        Args:
            values: float64, contiguous, of one shape on all workers; added in rank
                order, in place.
        """


@dataclass(frozen=True)
class LayerContext:
    """What a layer is given besides its own parameters.

    Attributes:
        ops: the backend.
        phase: TRAIN or TEST.
        dtype: float32, or float64 on the reference backend.
        seed: seed of the run; a layer draws from (seed, its name, rank).
        shard: which worker of how many this is.
        prefetch: whether data layers may read ahead in threads.
    """

    ops: Ops
    phase: Phase = Phase.TRAIN
    dtype: type = np.float32
    seed: int = 0
    shard: Shard = field(default_factory=Shard)
    prefetch: bool = True

    @property
    def half_dtype(self) -> np.dtype | None:
        """The type of 16 bits that activations may have; None beside float64."""
        return self.ops.activation_dtype if self.dtype is np.float32 else None

    def generator(self, name: str) -> Any:
        """The backend's generator for ``name``: same seed and rank, same numbers."""
        return self.ops.generator(self._seed_words(name))

    def host_generator(self, name: str) -> np.random.Generator:
        """The same for arrays of the host: fillers and data draw there."""
        rng: np.random.Generator = self.ops.host.generator(self._seed_words(name))
        return rng

    def _seed_words(self, name: str) -> tuple[int, ...]:
        return (self.seed & 0xFFFFFFFFFFFFFFFF, fnv1a(name), self.shard.rank)

    def in_phase(self, phase: Phase) -> LayerContext:
        """The same context for a layer of another phase."""
        return self if phase == self.phase else replace(self, phase=phase)


@dataclass(frozen=True)
class Example:
    """A small use of a layer type, which the contract suite runs.

    Attributes:
        param: the ``layer { ... }`` body in prototxt, without name, bottom and top
            (the suite adds them), e.g. ``'relu_param { negative_slope: 0.1 }'``.
        bottoms: shapes of the bottoms.
        num_top: how many tops (0: take the type's minimum).
        labels: bottom index -> number of classes, for bottoms of integer labels.
        check_gradient: numeric gradient check of bottoms (not labels) and params.
        in_place: also run with top = bottom and compare.
        kink: inputs are kept this far from 0 (non-smooth points).
        phase: phase to run in.
        stochastic: results differ between calls; only shapes are checked.
        batch_axes: which axis of each bottom counts the batch; without it axis 0, of
            the bottoms that are as long there as the first.
    """

    param: str = ""
    bottoms: tuple[Shape, ...] = ((2, 3, 4, 5),)
    num_top: int = 0
    labels: dict[int, int] = field(default_factory=dict)
    check_gradient: bool = True
    in_place: bool = False
    kink: float = 0.0
    phase: Phase = Phase.TRAIN
    stochastic: bool = False
    positive: bool = False
    batch_axes: tuple[int, ...] = ()


class Layer:
    """One layer of a net.

    A type is one short class: arity as class attributes, then `setup` (once:
    check settings, make parameter blobs), `reshape` (whenever bottoms change:
    shape the tops, make kernels), `forward` and `backward`.

    Attributes:
        param: the LayerParameter message.
        context: backend, phase, seed, shard.
        blobs: parameters (weights first, then bias, as in a .caffemodel).
        param_propagate_down: which parameters want gradients.
        loss_weights: one per top; 0 for tops that are no loss.
        note: gets lines that belong in the log, such as data starting over.
        skip_forward: the layer before computes this one's forward too (fused by
            the net); set only on types that say they honour it.
        skip_backward: that layer does this one's backward too (as `skip_forward`).
        will_backward: False once the net knows that backward never comes, so that
            layers need not keep copies for it.
    """

    type: ClassVar[str] = ""
    num_bottom: ClassVar[int | None] = None
    min_bottom: ClassVar[int] = 0
    max_bottom: ClassVar[int | None] = None
    num_top: ClassVar[int | None] = None
    min_top: ClassVar[int] = 0
    max_top: ClassVar[int | None] = None
    equal_bottom_top: ClassVar[bool] = False
    auto_top_blobs: ClassVar[bool] = False
    #: Whether the top may be the bottom's own blob.
    allows_in_place: ClassVar[bool] = False
    #: Learnable parameters never get gradients from the solver (BatchNorm).
    has_statistics: ClassVar[bool] = False
    #: Whether the first parameter's gradient is a product that ``factors()`` gives.
    offers_factors: bool = False
    #: Whether backward reads the bottoms' (tops') data, which then must be kept.
    backward_reads_bottom: bool = True
    backward_reads_top: bool = True
    #: Whether `state` is the same on all workers, so that any of them may take it.
    state_is_shared: bool = False
    #: Whether it runs a user's code, which may look at any blob at any time: the net
    #: then fuses nothing and shares no memory, stores the blobs that the layer touches
    #: in plain C order, and reshapes it before every forward, as Caffe does.
    runs_user_code: ClassVar[bool] = False
    #: Whether it reads or writes blobs on the host in each pass, by `Blob.cpu_data` and
    #: its like: on a GPU each pass then waits, and is no CUDA graph.
    works_on_host: ClassVar[bool] = False
    #: What its blobs are stored in; see `storage_of`.
    storage: ClassVar[Storage] = Storage.FLOAT
    #: Bottoms of which only the shape counts.
    shape_bottoms: ClassVar[tuple[int, ...]] = ()
    #: Records of an epoch, for layers that read data which all workers share.
    record_count: int | None = None

    def __init__(self, param: Any, context: LayerContext) -> None:
        self.param = param
        self.context = context
        self.ops = context.ops
        self.phase = context.phase
        self.blobs: list[Blob] = []
        self.param_propagate_down: list[bool] = []
        self.loss_weights: list[float] = []
        self.note: Callable[[str], None] | None = None
        self.skip_forward = False
        self.skip_backward = False
        self.will_backward = True

    # -- what a type fills in --------------------------------------------------
    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check settings and make parameters; bottoms have their shapes."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops from the bottoms and build kernels; cheap if unchanged."""
        raise LayerError(self.describe("this layer type has no reshape"))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute the tops' data."""
        raise LayerError(self.describe("this layer type has no forward"))

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Overwrite bottom diffs where asked, accumulate parameter diffs."""
        if any(propagate_down):
            problem = f'layers of type "{self.type}" cannot propagate gradients'
            raise LayerError(self.describe(problem))

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Whether ``force_backward`` reaches this bottom (not for labels)."""
        return True

    def default_loss_weight(self, top_index: int) -> float:
        """Loss weight of a top when the prototxt gives none."""
        return 0.0

    @classmethod
    def storage_of(cls, param: Any) -> Storage:
        """What a layer with this LayerParameter stores its blobs in."""
        del param
        return cls.storage

    @classmethod
    def examples(cls) -> list[Example]:
        """Uses for the contract suite; every registered type has at least one."""
        return []

    def set_pool(self, pool: Pool | None) -> bool:
        """Take moments over the batches of all workers, or (None) over the own one.

        Returns:
            Whether the layer takes any in its phase: most do not.
        """
        return False

    @property
    def moves_statistics(self) -> bool:
        """Whether forward changes the parameters, which then are statistics."""
        return self.has_statistics

    # -- state that exact resume needs -------------------------------------------
    def state(self) -> JsonObject:
        """JSON-able state beyond parameters: data position, generator state."""
        return {}

    def restore_state(self, state: JsonObject) -> None:
        """Take back what `state` gave."""

    def skip_batch(self) -> None:
        """Leave a batch of a test to another worker: data layers move on."""

    def close(self) -> None:
        """Release threads and files."""

    # -- help for types ------------------------------------------------------------
    @property
    def name(self) -> str:
        """The layer's name in the prototxt."""
        return str(self.param.name)

    def describe(self, problem: str) -> str:
        """An error text that names the layer and its type."""
        return f'layer "{self.name}" ({self.type}): {problem}'

    def shape_error(self, problem: str, bottom: Sequence[Blob]) -> ShapeError:
        """A ShapeError that names the layer, its bottoms and their shapes."""
        names = list(self.param.bottom)
        shapes = ", ".join(
            f"{names[i] if i < len(names) else i}: {b.shape}"
            for i, b in enumerate(bottom)
        )
        return ShapeError(self.describe(f"{problem} (bottoms {shapes})"))

    def new_param(self, shape: Shape, filler: Any) -> Blob:
        """A parameter blob in plain layout, filled by a FillerParameter."""
        from poseidon_caffe.layers.fillers import fill

        blob = Blob(shape, dtype=self.context.dtype, memory=self.ops.memory)
        stream = self.context.host_generator(f"filler/{self.name}/{len(self.blobs)}")
        values, ops = blob.mutable_cpu_data, self.ops.host
        fill(values, filler, stream, ops, where=self.describe("filler"))
        blob.touch()
        return blob

    def add_param(self, shape: Shape, filler: Any) -> None:
        """Append a parameter: filled, or from the ``blobs`` of the prototxt."""
        self.blobs.append(self.new_param(shape, filler))
        self.param_propagate_down.append(True)

    def check_arity(self, num_bottom: int, num_top: int) -> None:
        """Raise LayerError unless the counts of bottoms and tops fit the type."""
        rules = (
            (num_bottom, "bottom", self.num_bottom, self.min_bottom, self.max_bottom),
            (num_top, "top", self.num_top, self.min_top, self.max_top),
        )
        for got, what, exact, least, most in rules:
            if exact is not None and got != exact:
                raise LayerError(self.describe(f"takes {exact} {what}(s), not {got}"))
            if got < least:
                raise LayerError(
                    self.describe(f"takes at least {least} {what}(s), not {got}")
                )
            if most is not None and got > most:
                raise LayerError(
                    self.describe(f"takes at most {most} {what}(s), not {got}")
                )
        if self.equal_bottom_top and num_bottom != num_top:
            raise LayerError(
                self.describe(
                    f"takes as many tops as bottoms, not {num_bottom} and {num_top}"
                )
            )

    def as_matrix(self, array: Array, rows: int) -> Array:
        """``array`` as a 2-D C-order matrix (copies only if stored otherwise)."""
        return np.ascontiguousarray(array.reshape(rows, -1))


class LossLayer(Layer):
    """Base of losses: two bottoms, a scalar top of weight 1, labels get no diff."""

    num_bottom: ClassVar[int | None] = 2
    num_top: ClassVar[int | None] = 1
    auto_top_blobs = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Bottoms must agree on the batch; the top is a scalar."""
        if bottom[0].shape[:1] != bottom[1].shape[:1]:
            raise self.shape_error("data and label must have the same batch", bottom)
        top[0].reshape(())

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Labels get no gradient."""
        return bottom_index != 1

    def default_loss_weight(self, top_index: int) -> float:
        """The first top is the loss."""
        return 1.0 if top_index == 0 else 0.0

    def refuse_label_gradient(self, propagate_down: Sequence[bool]) -> None:
        """Raise LayerError if a gradient is asked for the labels."""
        if len(propagate_down) > 1 and propagate_down[1]:
            raise LayerError(self.describe("cannot backpropagate to label inputs"))
