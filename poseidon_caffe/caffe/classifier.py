"""``caffe.Classifier``: a net that tells the class of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from poseidon_caffe.caffe import images
from poseidon_caffe.caffe.net import Net, StrPath
from poseidon_caffe.caffe.transformer import first_input, image_transformer
from poseidon_caffe.caffe.value_errors import ArrayError
from poseidon_caffe.types import Array, Phase

__all__ = ["Classifier"]

_CROPS = 10


class Classifier(Net):
    """A net whose first input takes images and whose first output are the classes.

    Args:
        model_file: the deploy prototxt.
        pretrained_file: the weights.
        image_dims: height and width that images are resized to before they are
            cropped; those of the input by default.
        mean, input_scale, raw_scale, channel_swap: see `caffe.io.Transformer`.

    Attributes:
        transformer: what brings crops into the input's form.
        image_dims, crop_dims: height and width of images, and of the input.

    Raises:
        PoseidonError: a file is missing or wrong, or a setting does not fit the input.
    """

    def __init__(
        self,
        model_file: StrPath,
        pretrained_file: StrPath,
        image_dims: Sequence[int] | None = None,
        mean: Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, Phase.TEST, weights=pretrained_file)
        name = first_input(self.inputs)
        shape = self.blobs[name].shape
        self.transformer = image_transformer(
            name,
            shape,
            mean=mean,
            input_scale=input_scale,
            raw_scale=raw_scale,
            channel_swap=channel_swap,
        )
        self.crop_dims = np.array(shape[2:])
        self.image_dims: Any = self.crop_dims
        if image_dims is not None and len(image_dims):
            self.image_dims = image_dims

    def predict(self, inputs: Sequence[Array], oversample: bool = True) -> Array:  # noqa: FBT001, FBT002 - pycaffe's signature
        """Probabilities, or whatever the net's first output is, for each image.

        Args:
            inputs: images (H, W, K) of any size.
            oversample: the mean over ten crops (corners, centre, and these mirrored);
                else of the centre alone.

        Returns:
            (images, classes); without `oversample` in the output's own shape.

        Raises:
            ArrayError: no images, or they fit neither each other nor the input; a
                ValueError too.
        """
        if len(inputs) == 0:
            raise ArrayError("no images to classify")
        dims = [int(each) for each in self.image_dims]
        scaled = [images.resize_image(np.asarray(image), dims) for image in inputs]
        if len({image.shape for image in scaled}) > 1:
            counts = sorted({image.shape[2] for image in scaled})
            raise ArrayError(f"images must have the same channels, not {counts}")
        crops = (
            images.oversample(scaled, self.crop_dims.tolist())
            if oversample
            else self._centres(np.stack(scaled))
        )
        name = self.inputs[0]
        prepared = [self.transformer.preprocess(name, crop) for crop in crops]
        fed: dict[str, Any] = {name: np.stack(prepared)}
        out = self.forward_all(**fed)[self.outputs[0]]
        if oversample:
            out = out.reshape(len(out) // _CROPS, _CROPS, -1).mean(axis=1)
        return out

    def _centres(self, batch: Array) -> Array:
        height, width = (int(each) for each in self.crop_dims)
        down, right = batch.shape[1] - height, batch.shape[2] - width
        if min(down, right) < 0:
            msg = (
                f"images of {batch.shape[1]}x{batch.shape[2]} (image_dims) are smaller "
                f"than the net's input, {height}x{width}"
            )
            raise ArrayError(msg)
        top, left = down // 2, right // 2
        return batch[:, top : top + height, left : left + width]
