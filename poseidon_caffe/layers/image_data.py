"""ImageData: batches from a list of image files."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.data.image import encode_image
from poseidon_caffe.data.image_list import ImageListSettings, ImageListSource
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.fed import FedLayer, Opened
from poseidon_caffe.layers.registry import register

__all__ = ["ImageData"]


@register("ImageData")
class ImageData(FedLayer):
    """Reads the image files that a list names, transforms them, makes them batches.

    Bottoms: none.  Tops: data (batch_size, C, H, W); label (batch_size,).

    ``image_data_param``: ``source``, a text file of lines ``PATH LABEL`` (the last
    blank separates, so paths may hold blanks); ``root_folder`` ("") is put before
    each path as it is; ``batch_size`` (1); ``new_height`` and ``new_width`` (0)
    resize every image (bilinear), both or neither; ``is_color`` (true) gives three
    channels in the order blue, green, red, else one; ``shuffle`` (false) mixes the
    lines anew in each epoch; ``rand_skip`` (0) starts at a random line below it;
    ``shared_file_system: false`` reads ``source_<rank>``; ``threads`` (0: a quarter
    of the cores) decode.  ``transform_param``: ``crop_size``, ``mirror``, ``scale``,
    ``mean_file`` or ``mean_value``, as in Data.  One worker of N takes every N-th
    line, or in tests every N-th batch.

    Sizes: a batch takes the shape of its first image.  Where images differ in size,
    give ``new_height`` and ``new_width``, a ``crop_size``, or a batch of one.

    Caffe parity: exact values, resized ones too; order, crops, mirrors and
    ``rand_skip`` are drawn by another generator, and survive a resume.  A line
    without an integer label, which Caffe takes for label 0, is an error; blank lines
    are left out.
    """

    num_top = 2

    def __init__(self, param: Any, context: Any) -> None:
        super().__init__(param, context)
        self._source: ImageListSource | None = None

    @property
    def source_is_shared(self) -> bool:
        """Whether all workers read one list (``shared_file_system``)."""
        return bool(self.param.image_data_param.shared_file_system)

    def rekey(self, key: int) -> None:
        """See `FedLayer.rekey`."""
        assert self._source is not None
        self._source.rekey(key)

    def open_source(self) -> Opened:
        """The list, and its first image."""
        param = self.param.image_data_param
        settings = self._settings()
        self._source = source = ImageListSource(settings, self.transformer)
        if settings.shuffle:
            self.say("Shuffling data")
        self.say(f"A total of {len(source)} images.")
        skip = self.drawn_skip(param.rand_skip)
        if param.rand_skip:
            self.say(f"Skipping first {skip} data points.")
        if skip >= len(source):
            raise LayerError(
                f"rand_skip {param.rand_skip} skips {skip} images, "
                f"{settings.list_file} has {len(source)}; give at most that many"
            )
        return Opened(
            source,
            source.image_shape(skip),
            batch_size=param.batch_size,
            first_record=skip,
            threads=param.threads,
        )

    def _settings(self) -> ImageListSettings:
        param = self.param.image_data_param
        height, width = param.new_height, param.new_width
        if (height > 0) != (width > 0):
            raise LayerError(
                f"new_height {height} and new_width {width}: give both, or neither"
            )
        if param.batch_size == 0:
            raise LayerError("batch_size must be at least 1")
        return ImageListSettings(
            list_file=self.own_name(param.source, "image_data_param"),
            root_folder=param.root_folder,
            new_height=height,
            new_width=width,
            gray=not param.is_color,
            shuffle=param.shuffle,
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """Five small images: whole, and resized, mixed and cropped."""
        source = f'source: "{_example_list()}"'
        crop = "transform_param { crop_size: 4 mirror: true mean_value: 9 } "
        mixed = "batch_size: 3 shuffle: true new_height: 6 new_width: 5 is_color: false"
        return [
            Example(f"image_data_param {{ {source} }}", bottoms=(), stochastic=True),
            Example(
                f"{crop} image_data_param {{ {source} {mixed} }}",
                bottoms=(),
                stochastic=True,
            ),
        ]


@functools.cache
def _example_list() -> Path:
    """Five images in a temporary folder that lives as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="poseidon-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    lines = []
    for i in range(5):
        image = (np.arange(3 * 6 * 7) * (i + 1) % 251).astype(np.uint8)
        path = folder / f"{i}.png"
        path.write_bytes(encode_image(image.reshape(3, 6, 7), "png"))
        lines.append(f"{path} {i}\n")
    listed = folder / "list.txt"
    listed.write_text("".join(lines))
    return listed
