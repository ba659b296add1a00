"""What layers share that can do the ReLU after them."""

from __future__ import annotations

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.layers.relu import ReLU
from poseidon_caffe.types import Array, Shape

__all__ = ["Rectifying"]


class Rectifying(Layer):
    """A layer whose forward can end, and whose backward can begin, with a ReLU.

    Attributes:
        fused_relu: negative slope of a ReLU that forward applies too, or None.
        rectifies_backward: whether backward begins with that of this ReLU.
    """

    fused_relu: float | None = None
    rectifies_backward: bool = False

    @property
    def can_fuse_relu(self) -> bool:
        """Whether forward can also do the ReLU that follows in place."""
        return True

    def fuse_relu(self, slope: float) -> None:
        """Apply a ReLU of this negative slope in forward from now on.

        The ReLU's own forward is then to be skipped; its backward still runs.
        """
        self.fused_relu = slope

    def can_fuse_relu_backward(self, relu: ReLU) -> bool:
        """Whether backward can also do that of the ReLU which forward does."""
        return (
            self.ops.fuses_relu_backward
            and self.fused_relu is not None
            and self.fused_relu >= 0
            and self.will_backward
            and relu.will_backward
        )

    def fuse_relu_backward(self, relu: ReLU) -> None:
        """Do the ReLU's backward too; call when `can_fuse_relu_backward`."""
        self.rectifies_backward = self.backward_reads_top = relu.skip_backward = True
        relu.backward_reads_top = relu.backward_reads_bottom = False

    def rectify_diff(self, top: Blob, bias: Blob | None, shape: Shape) -> bool:
        """Begin backward: the top's diff becomes what the ReLU passes of it.

        Args:
            top: its data tells what passes.
            bias: whose gradient is the sums of that, or None where none is wanted.
            shape: (N, C, ...) of the top, C as long as the bias.

        Returns:
            Whether ``bias`` has its gradient, from the same pass over memory.
        """
        assert self.fused_relu is not None
        y, dy = _shown(top.data, shape), _shown(top.diff, shape)
        if bias is None or y is None or dy is None:
            self.ops.relu_backward(top.data, top.diff, top.diff, self.fused_relu)
            return False
        target, accumulate = bias.gradient_target()
        self.ops.relu_backward_sums(
            y, dy, dy, self.fused_relu, target, accumulate=accumulate
        )
        return True


def _shown(array: Array, shape: Shape) -> Array | None:
    """The array itself under ``shape``; None if it would take a copy."""
    if array.shape == shape:
        return array
    return array.reshape(shape) if array.flags.c_contiguous else None
