"""A Python layer to start from: ``python_param { module: "..." layer: "..." }``."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.caffe.blob import Blob
from poseidon_caffe.caffe.layer import Layer

__all__ = ["ScaleLayer"]


class ScaleLayer(Layer):
    """y = w x with one learnable number w, ``param_str`` at first (1 by default)."""

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One parameter of shape (1,)."""
        if len(bottom) != 1 or len(top) != 1:
            raise ValueError("ScaleLayer takes one bottom and one top")
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = float(self.param_str or 1)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The top has the bottom's shape."""
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """y = w x."""
        top[0].data[...] = self.blobs[0].data * bottom[0].data

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dw += sum(x dy); dx = w dy."""
        self.blobs[0].diff[...] += (bottom[0].data * top[0].diff).sum()
        if propagate_down[0]:
            bottom[0].diff[...] = self.blobs[0].data * top[0].diff
