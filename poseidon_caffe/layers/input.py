"""Input: tops that the user fills."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import register

__all__ = ["Input"]


@register("Input")
class Input(Layer):
    """Gives tops their shapes; their values come from outside.

    Tops: one or more; ``input_param.shape`` gives one shape for all or one each.
    Tops keep a shape that the user sets later (``net.blobs[...].reshape``).

    Caffe parity: exact.
    """

    num_bottom = 0
    min_top = 1

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops once."""
        shapes = [tuple(shape.dim) for shape in self.param.input_param.shape]
        if len(shapes) not in {0, 1, len(top)}:
            problem = f"has {len(shapes)} shapes for {len(top)} tops (give 1 or all)"
            raise LayerError(self.describe(problem))
        for i, blob in enumerate(top if shapes else ()):
            blob.reshape(shapes[i] if len(shapes) > 1 else shapes[0])

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing: the user may have reshaped the tops."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing: the user has filled the tops."""

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Nothing: there is no bottom."""

    @classmethod
    def examples(cls) -> list[Example]:
        """One shape for two tops, and one each."""
        one = "input_param { shape { dim: 2 dim: 3 } }"
        two = "input_param { shape { dim: 2 dim: 3 } shape { dim: 4 } }"
        return [
            Example(one, bottoms=(), num_top=2),
            Example(two, bottoms=(), num_top=2),
        ]
