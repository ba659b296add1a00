"""BatchNorm: every channel to mean 0 and variance 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.protocols import BatchNormKernel
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Pool, Storage
from poseidon_caffe.layers.pooled_moments import PooledBatchNorm
from poseidon_caffe.layers.registry import register
from poseidon_caffe.layers.relu import ReLU
from poseidon_caffe.layers.scale import Scale
from poseidon_caffe.types import Array, Phase, Shape

__all__ = ["BatchNorm"]


@register("BatchNorm")
class BatchNorm(Layer):
    """y = (x - mean) / sqrt(variance + eps), per channel.

    Bottoms, tops: one (N, C, ...); in place allowed.
    Params: running sum of means (C,), of variances (C,), and their weight (1,); the
    stored moments are the sums divided by the weight.  A solver never changes them.

    TRAIN takes the batch's own moments and adds them to the running ones, which
    decay by ``moving_average_fraction``; the variance is stored unbiased (m / (m-1)).
    TEST, or ``use_global_stats: true``, takes the stored moments.

    With a pool (`set_pool`) TRAIN takes the moments of all workers' batches, whose
    running moments then are the same; forward and backward wait for the slowest.

    Caffe parity: exact.
    """

    storage = Storage.BOTTOM
    backward_reads_top = False

    num_bottom = 1
    num_top = 1
    allows_in_place = True
    has_statistics = True

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        p = param.batch_norm_param
        given = p.HasField("use_global_stats")
        #: Whether the stored moments are used.
        self.use_stored = p.use_global_stats if given else self.phase == Phase.TEST
        #: A Scale whose forward this layer does too, and whether a ReLU's as well.
        self.fused_scale: Scale | None = None
        self.fused_relu = False
        self._geometry: BatchNormGeometry | None = None
        self._kernel: BatchNormKernel | None = None
        self._pool: Pool | None = None
        self._mean = Blob(dtype=context.dtype, memory=context.ops.memory)
        self._var = Blob(dtype=context.dtype, memory=context.ops.memory)
        self._no_shift = Blob(dtype=context.dtype, memory=context.ops.memory)
        self._dscale = Blob(dtype=context.dtype, memory=context.ops.memory)
        self._dshift = Blob(dtype=context.dtype, memory=context.ops.memory)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the running moments, which want no gradients."""
        if not bottom[0].shape:
            raise self.shape_error("needs at least one axis", bottom)
        channels = _as_channels(bottom[0].shape)[1]
        for shape in ((channels,), (channels,), (1,)):
            self.blobs.append(
                Blob(shape, dtype=self.context.dtype, memory=self.ops.memory)
            )
            self.param_propagate_down.append(False)
        for spec in self.param.param:
            if spec.lr_mult != 0:
                problem = "its statistics are not learned: lr_mult must be 0"
                raise LayerError(self.describe(problem))
        while len(self.param.param) < len(self.blobs):
            self.param.param.add(lr_mult=0.0)
        for blob in (self._mean, self._var, self._no_shift):
            blob.reshape((channels,))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Channels must stay; make a new kernel if the shape changed."""
        shape = _as_channels(bottom[0].shape)
        if (shape[1],) != self.blobs[0].shape:
            problem = f"has statistics of {self.blobs[0].shape[0]} channels"
            raise self.shape_error(problem, bottom)
        top[0].reshape(bottom[0].shape)
        geometry = BatchNormGeometry(
            shape,
            self.param.batch_norm_param.eps,
            self.use_stored,
            affine=self.fused_scale is not None,
            relu=self.fused_relu,
            inference=not self.will_backward,
        )
        if geometry != self._geometry:
            self._geometry, self._kernel = geometry, None

    def set_pool(self, pool: Pool | None) -> bool:
        """Take the batch's moments over all workers, unless stored ones are used."""
        if not self.use_stored and pool is not self._pool:
            self._pool, self._kernel = pool, None
        return not self.use_stored

    @property
    def moves_statistics(self) -> bool:
        """Whether forward changes the running moments."""
        return not self.use_stored

    def _make_kernel(self) -> BatchNormKernel:
        assert self._geometry is not None
        if self._pool is None:
            return self.ops.batch_norm(self._geometry)
        return PooledBatchNorm(self.ops, self._geometry, self._pool)

    def _shown(self, array: Array) -> Array:
        """The array with a channel axis."""
        return array.reshape(-1, 1) if array.ndim == 1 else array

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Normalise; in TRAIN also update the running moments."""
        if bottom[0].count == 0 and self._pool is None:
            return
        if self._kernel is None:
            self._kernel = self._make_kernel()
        if self.use_stored:
            self._load_moments()
        scale = shift = None
        if self.fused_scale is not None:
            blobs = self.fused_scale.blobs
            scale = blobs[0].data
            shift = blobs[1].data if len(blobs) > 1 else self._no_shift.data
        x, y = self._shown(bottom[0].data), self._shown(top[0].data)
        self._kernel.forward(x, y, self._mean.data, self._var.data, scale, shift)
        if not self.use_stored:
            samples = bottom[0].count // self.blobs[0].count
            if isinstance(self._kernel, PooledBatchNorm):
                samples = self._kernel.count
            self._store_moments(samples)

    def _load_moments(self) -> None:
        """Stored sums divided by their weight (0 while nothing is stored)."""
        means, variances, weight = (blob.data for blob in self.blobs)
        self.ops.load_moments(means, variances, weight, self._mean.data, self._var.data)

    def _store_moments(self, samples: int) -> None:
        """Add the batch's moments (of ``samples`` values a channel, maybe none)."""
        if samples == 0:
            return
        keep = float(self.param.batch_norm_param.moving_average_fraction)
        unbiased = samples / (samples - 1) if samples > 1 else 1.0
        mean, var = self._mean.data, self._var.data
        means, variances, weight = (blob.data for blob in self.blobs)
        self.ops.store_moments(mean, var, means, variances, weight, keep, unbiased)
        for blob in self.blobs:
            blob.touch()

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradient through the normalised values and the batch's own moments."""
        nothing = bottom[0].count == 0 and self._pool is None
        if not propagate_down[0] or nothing:
            return
        if self._kernel is None:
            raise LayerError(self.describe("cannot go backward before a forward"))
        fused = self.fused_scale
        scale = None if fused is None else fused.blobs[0].data
        dscale, dshift = (None, None) if fused is None else self._scale_gradients()
        self._kernel.backward(
            self._shown(bottom[0].data),
            self._shown(top[0].diff),
            self._shown(bottom[0].diff),
            self._mean.data,
            self._var.data,
            scale,
            dscale,
            dshift,
            in_place=bottom[0] is top[0],
        )
        if fused is not None:
            self._keep_scale_gradients(fused)

    def _scale_gradients(self) -> tuple[Array, Array]:
        """Where the kernel writes the fused Scale's gradients."""
        for blob in (self._dscale, self._dshift):
            blob.reshape(self.blobs[0].shape)
        return self._dscale.data, self._dshift.data

    def _keep_scale_gradients(self, scale: Scale) -> None:
        """Hand the fused Scale's parameters their gradients."""
        made = (self._dscale.data, self._dshift.data)
        for blob, wanted, value in zip(
            scale.blobs, scale.param_propagate_down, made, strict=False
        ):
            if wanted:
                target, accumulate = blob.gradient_target()
                sources = [value, target] if accumulate else [value]
                self.ops.add(sources, target, [1.0] * len(sources))

    # -- fusing ------------------------------------------------------------------
    def can_fuse_scale(self, scale: Layer) -> bool:
        """Whether this layer can also do ``scale``, which changes its top in place.

        Not where only the scale goes backward (a BatchNorm right on the data): its
        gradients come from this layer's backward, which would never run.
        """
        return (
            isinstance(scale, Scale)
            and self.fused_scale is None
            and scale.per_channel
            and scale.will_backward == self.will_backward
        )

    def can_fuse_relu(self, relu: Layer) -> bool:
        """Whether this layer can also do ``relu``, next or after a Scale that it does.

        Where the backend's kernels take a ReLU in training, it goes backward with
        them.  Others take one with stored moments and where backward never comes.
        """
        if not isinstance(relu, ReLU) or relu.slope != 0:
            return False
        if self.ops.fuses_relu_backward:
            return relu.will_backward == self.will_backward
        return self.use_stored and not self.will_backward

    def fuse_scale(self, scale: Scale, relu: ReLU | None = None) -> None:
        """Do what ``scale`` does too, and all of a plain ReLU after it.

        They skip theirs from now on; call when `can_fuse_scale` and `can_fuse_relu`.
        """
        self.fused_scale = scale
        scale.skip_forward = True
        if relu is not None:
            self.fuse_relu(relu)
        self._geometry = None

    def fuse_relu(self, relu: ReLU) -> None:
        """Do all of a plain ``relu`` too; call when `can_fuse_relu`."""
        self.fused_relu = relu.skip_forward = relu.skip_backward = True
        relu.backward_reads_top = relu.backward_reads_bottom = False
        self._geometry = None

    @classmethod
    def examples(cls) -> list[Example]:
        """The batch's moments, stored ones, one axis, many axes."""
        stored = "batch_norm_param { use_global_stats: true }"
        return [
            Example("batch_norm_param { eps: 0.001 }", in_place=True),
            Example(bottoms=((6, 3),)),
            Example(bottoms=((6,),)),
            Example(bottoms=((2, 3, 2, 2, 3),)),
            Example(stored, in_place=True),
            Example(in_place=True, phase=Phase.TEST),
        ]


def _as_channels(shape: Shape) -> Shape:
    """The shape with a channel axis: one channel for one-axis blobs."""
    return (math.prod(shape), 1) if len(shape) < 2 else shape
