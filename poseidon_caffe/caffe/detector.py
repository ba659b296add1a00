"""``caffe.Detector``: a net that tells the class of windows of images.

The method is that of Girshick, Donahue, Darrell and Malik, "Rich feature hierarchies
for accurate object detection and semantic segmentation", https://arxiv.org/abs/1311.2524.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.caffe import images
from poseidon_caffe.caffe.net import Net, StrPath
from poseidon_caffe.caffe.transformer import first_input, image_transformer
from poseidon_caffe.caffe.value_errors import ArrayError
from poseidon_caffe.errors import UsageError
from poseidon_caffe.types import Array, Phase

__all__ = ["Detector"]

_SEARCH = "selective_search_ijcv_with_python"


class Detector(Net):
    """A net whose first input takes windows cut out of images.

    Caffe parity: windows may be any sequences of four numbers, and
    ``images_windows`` any iterable (Caffe goes through it twice).

    Args:
        model_file: the deploy prototxt.
        pretrained_file: the weights.
        mean, input_scale, raw_scale, channel_swap: see `caffe.io.Transformer`.
        context_pad: how many pixels at each border of the net's input are to show
            what surrounds the window, as in R-CNN; None or 0 for none.

    Attributes:
        transformer: what brings windows into the input's form.
        context_pad, crop_dims, crop_mean: as set by `configure_crop`.

    Raises:
        PoseidonError: a file is missing or wrong, or a setting does not fit the input.
    """

    crop_mean: Array

    def __init__(
        self,
        model_file: StrPath,
        pretrained_file: StrPath,
        mean: Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, Phase.TEST, weights=pretrained_file)
        name = first_input(self.inputs)
        self.transformer = image_transformer(
            name,
            self.blobs[name].shape,
            mean=mean,
            input_scale=input_scale,
            raw_scale=raw_scale,
            channel_swap=channel_swap,
        )
        self.configure_crop(context_pad)

    def detect_windows(
        self, images_windows: Iterable[tuple[StrPath, Iterable[Sequence[float]]]]
    ) -> list[dict[str, Any]]:
        """Run the net over windows of images.

        Args:
            images_windows: (image file, windows); a window is (ymin, xmin, ymax, xmax)
                in pixels, its end excluded.

        Returns:
            For each window a dict: "filename", "window" as given, and "prediction",
            the net's first output for it.

        Raises:
            ImageFileError: an image cannot be read.
            ArrayError: a window is empty or outside its image.
        """
        found: list[dict[str, Any]] = []
        crops = []
        for filename, windows in images_windows:
            image = images.load_image(filename)
            for window in windows:
                crops.append(self.crop(image, window))
                found.append({"window": window, "filename": filename})
        if not crops:
            return found
        name = self.inputs[0]
        prepared = [self.transformer.preprocess(name, crop) for crop in crops]
        fed: dict[str, Any] = {name: np.stack(prepared)}
        predictions = self.forward_all(**fed)[self.outputs[0]]
        for each, prediction in zip(found, predictions, strict=True):
            each["prediction"] = prediction
        return found

    def detect_selective_search(
        self, image_fnames: Iterable[StrPath]
    ) -> list[dict[str, Any]]:
        """Run the net over the windows that Selective Search proposes.

        Needs the package selective_search_ijcv_with_python, and MATLAB, as Caffe does.

        Returns:
            As `detect_windows`.

        Raises:
            UsageError: the package is not installed.
        """
        import importlib

        try:
            search = importlib.import_module(_SEARCH)
        except ImportError as error:
            msg = (
                f"Selective Search needs the package {_SEARCH}, which is not "
                f"installed: https://github.com/sergeyk/{_SEARCH}; or give the windows "
                "yourself (detect_windows; poseidon detect --crop_mode=list)"
            )
            raise UsageError(msg) from error
        # MATLAB has a working folder of its own.
        names = [str(Path(name).absolute()) for name in image_fnames]
        windows = search.get_windows(names, cmd="selective_search_rcnn")
        return self.detect_windows(zip(names, windows, strict=True))

    def crop(self, im: Array, window: Sequence[float]) -> Array:
        """Cut a window out of an image.

        Args:
            im: (H, W, K).
            window: (ymin, xmin, ymax, xmax) in pixels, its end excluded.

        Returns:
            The window; with context, it and its surroundings in the input's size,
            the mean standing where there is no image.

        Raises:
            ArrayError: the window is empty or outside the image.
        """
        box = np.asarray(window)
        if box.shape != (4,):
            msg = f"a window is (ymin, xmin, ymax, xmax), received {window}"
            raise ArrayError(msg)
        if self.context_pad:
            return self._with_context(im, box.astype(np.float64), self.context_pad)
        top, left, bottom, right = (int(each) for each in box)
        part = im[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        return _filled(part, im, window)

    def configure_crop(self, context_pad: int | None) -> None:
        """Set how much surroundings `crop` takes, and what it puts beyond the image.

        Args:
            context_pad: pixels at each border of the input; None or 0 for none.

        Raises:
            UsageError: no pixel of the input would be left for the window.
        """
        name = self.inputs[0]
        back = np.argsort(self.transformer.transpose[name])
        self.crop_dims = np.array(self.blobs[name].shape[1:])[back]
        self.context_pad = context_pad
        if not context_pad:
            return
        if not 0 < 2 * context_pad < self.crop_dims[1]:
            msg = (
                f"context_pad={context_pad} leaves nothing of an input that is "
                f"{self.crop_dims[1]} pixels wide"
            )
            raise UsageError(msg)
        self.crop_mean = self._image_mean(name, back)

    def _image_mean(self, name: str, back: Array) -> Array:
        """The mean in the form of images before the transformation."""
        mean = self.transformer.mean.get(name)
        if mean is None:
            return np.zeros(self.crop_dims, np.float32)
        if mean.ndim == 2:
            mean = mean[np.newaxis]
        image = mean.transpose(back).astype(np.float32)
        order = self.transformer.channel_swap.get(name)
        if order is not None:
            image = image[:, :, np.argsort(order)]
        scale = self.transformer.raw_scale.get(name)
        return image if scale is None else image / np.float32(scale)

    def _with_context(self, im: Array, box: Array, pad: int) -> Array:
        size = self.blobs[self.inputs[0]].shape[3]  # inputs are square
        half = (box[2:] - box[:2] + 1) / 2.0
        centre = box[:2] + half
        wide = half * (size / (size - 2.0 * pad))
        first, last = np.round(centre - wide), np.round(centre + wide)
        scale = size / (last - first + 1)
        # In pixels of the input: where the image begins, and how far it reaches.
        start = [round(float(x)) for x in np.maximum(0, -first) * scale]
        first = np.clip(first, 0, im.shape[:2]).astype(int)
        last = np.clip(last, 0, im.shape[:2]).astype(int)
        reach = [
            min(round(float(length)), size - begin)
            for length, begin in zip((last - first + 1) * scale, start, strict=True)
        ]
        part = _filled(im[first[0] : last[0], first[1] : last[1]], im, box)
        out = np.ones(self.crop_dims, np.float32) * self.crop_mean
        if min(reach) > 0:
            (top, left), (height, width) = start, reach
            resized = images.resize_image(part, (height, width))
            out[top : top + height, left : left + width] = resized
        return out


def _filled(part: Array, im: Array, window: Any) -> Array:
    """``part``, if there is anything in it."""
    if 0 in part.shape:
        msg = (
            f"the window {np.asarray(window).tolist()} (ymin, xmin, ymax, xmax) holds "
            f"nothing of an image of {im.shape[0]}x{im.shape[1]} pixels"
        )
        raise ArrayError(msg)
    return part
