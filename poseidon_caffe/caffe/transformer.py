"""``caffe.io.Transformer``: images (H, W, K) to what a net's input takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from poseidon_caffe.caffe.images import resize_image
from poseidon_caffe.caffe.value_errors import ArrayError, LayerValueError
from poseidon_caffe.errors import UsageError
from poseidon_caffe.types import Array

__all__ = ["Transformer", "first_input", "image_transformer"]

_IMAGE_AXES = 3


class Transformer:
    """Brings images into the form that the inputs of a net take, and back.

    The steps, in this order, each only if it is set: resize to the input's height
    and width, transpose, reorder channels, multiply by the raw scale, subtract the
    mean, multiply by the input scale.

    Caffe parity: `preprocess` leaves the array it is given as it is (Caffe scales a
    float32 image of the input's own size in place); a mean image of another size is
    resized.

    Attributes:
        inputs: shape (N, K, H, W) of each input, as given.
        transpose, channel_swap, raw_scale, mean, input_scale: what was set, by input.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, Array] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: Array) -> Array:
        """What the input takes for one image.

        Args:
            in_: name of the input.
            data: (H', W', K), numbers of any type.

        Returns:
            float32 (K, H, W), a new array.

        Raises:
            UsageError: no such input.
            ArrayError: ``data`` is no image, or the mean does not fit it.
        """
        shape = self._shape(in_)
        image: Array = np.asarray(data).astype(np.float32)
        if image.shape[:2] != shape[2:]:
            image = resize_image(image, shape[2:])
        if in_ in self.transpose:
            image = self._transposed(in_, image, self.transpose[in_])
        if in_ in self.channel_swap:
            image = self._swapped(in_, image, list(self.channel_swap[in_]))
        if in_ in self.raw_scale:
            image *= np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            image -= self._fitting(in_, image)
        if in_ in self.input_scale:
            image *= np.float32(self.input_scale[in_])
        return image

    def deprocess(self, in_: str, data: Array) -> Array:
        """The image that `preprocess` would have made ``data`` of, size apart.

        Args:
            in_: name of the input.
            data: (K, H, W), or (1, K, H, W).

        Returns:
            (H, W, K) if a transposition is set; axes of length 1 are dropped where
            none is.

        Raises:
            UsageError: no such input.
            ArrayError: ``data`` is several images, or what was set does not fit it.
        """
        self._shape(in_)
        values = np.array(data)
        image = values if values.dtype.kind == "f" else values.astype(np.float32)
        image = image.squeeze()
        if in_ in self.transpose and image.ndim < _IMAGE_AXES <= values.ndim:
            image = image.reshape(values.shape[-_IMAGE_AXES:])
        if in_ in self.input_scale:
            image /= self.input_scale[in_]
        if in_ in self.mean:
            image += self._fitting(in_, image)
        if in_ in self.raw_scale:
            image /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            order = np.argsort(self.channel_swap[in_]).tolist()
            image = self._swapped(in_, image, order)
        if in_ in self.transpose:
            image = self._transposed(in_, image, np.argsort(self.transpose[in_]))
        return image

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Bring the image's axes into ``order``: (2, 0, 1) for images (H, W, K).

        Raises:
            UsageError: no such input, or not as many axes as the input has without
                its batch.
        """
        axes = len(self._shape(in_)) - 1
        if sorted(order) != list(range(axes)):
            msg = f"{in_!r} has {axes} axes to be ordered, received {order}"
            raise LayerValueError(msg)
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Bring the channels into ``order`` after transposing: (2, 1, 0) is RGB to BGR.

        Raises:
            UsageError: no such input, or not one number a channel.
        """
        channels = self._shape(in_)[1]
        if len(order) != channels:
            msg = f"{in_!r} has {channels} channels, the order {order} has {len(order)}"
            raise LayerValueError(msg)
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Multiply by ``scale`` before the mean is subtracted: 255 for most nets.

        Raises:
            UsageError: no such input.
        """
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: Array) -> None:
        """Subtract ``mean``: one number a channel, or an image (K, H, W) or (H, W).

        An image of another size than the input's is resized.

        Raises:
            UsageError: no such input.
            ArrayError: the channels do not fit; a ValueError too.
        """
        shape, values = self._shape(in_), np.asarray(mean)
        if values.ndim not in (1, 2, _IMAGE_AXES):
            msg = f"a mean has the shape (K,), (H, W) or (K, H, W), not {values.shape}"
            raise ArrayError(msg)
        channels = 1 if values.ndim == 2 else values.shape[0]
        if channels != shape[1]:
            msg = f"{in_!r} has {shape[1]} channels, the mean has {channels}"
            raise ArrayError(msg)
        if values.ndim == 1:
            values = values[:, np.newaxis, np.newaxis]
        elif values.shape[-2:] != shape[2:]:
            image = values.reshape(channels, *values.shape[-2:]).transpose(1, 2, 0)
            values = resize_image(image, shape[2:]).transpose(2, 0, 1)
        self.mean[in_] = values

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Multiply by ``scale`` after everything else.

        Raises:
            UsageError: no such input.
        """
        self._shape(in_)
        self.input_scale[in_] = scale

    def _shape(self, in_: str) -> tuple[int, ...]:
        """The shape of an input, which must be known."""
        if in_ not in self.inputs:
            msg = f"{in_!r} is not one of the net's inputs: {list(self.inputs)}"
            raise UsageError(msg)
        return tuple(int(length) for length in self.inputs[in_])

    def _fitting(self, in_: str, image: Array) -> Any:
        """The mean, if it can be added to ``image`` in place."""
        mean = self.mean[in_]
        try:
            if mean.ndim > image.ndim:
                mean = mean.reshape(mean.shape[-image.ndim :])
            np.broadcast_to(mean, image.shape)
        except ValueError as error:
            msg = f"{in_!r}: the mean {mean.shape} does not fit {image.shape}"
            raise ArrayError(msg) from error
        return mean

    def _transposed(self, in_: str, image: Array, order: Any) -> Array:
        if image.ndim != len(order):
            msg = f"{in_!r}: expected an array of {len(order)} axes, not {image.shape}"
            raise ArrayError(msg)
        return image.transpose(tuple(order))

    def _swapped(self, in_: str, image: Array, order: list[int]) -> Array:
        if image.ndim != _IMAGE_AXES or max(order, default=-1) >= image.shape[0]:
            msg = (
                f"{in_!r}: the channels of {image.shape} cannot be brought into the "
                f"order {order}"
            )
            raise ArrayError(msg)
        return image[order]


def first_input(inputs: Sequence[str]) -> str:
    """The name of a net's first input.

    Raises:
        UsageError: it has none, as nets that read a database.
    """
    if not inputs:
        raise UsageError(
            "the net has no inputs (Input layers): give the prototxt for deployment, "
            "not the one for training"
        )
    return inputs[0]


def image_transformer(
    in_: str,
    shape: Sequence[int],
    *,
    mean: Array | None = None,
    input_scale: float | None = None,
    raw_scale: float | None = None,
    channel_swap: Sequence[int] | None = None,
) -> Transformer:
    """A transformer from images (H, W, K) to one input; None leaves a step out.

    Raises:
        PoseidonError: a setting does not fit the input.
    """
    transformer = Transformer({in_: shape})
    transformer.set_transpose(in_, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(in_, mean)
    if input_scale is not None:
        transformer.set_input_scale(in_, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(in_, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(in_, channel_swap)
    return transformer
