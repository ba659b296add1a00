"""WindowData: batches of windows of images, as R-CNN trains on them."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np

from poseidon_caffe.data.image import encode_image
from poseidon_caffe.data.window_file import WindowFile, read_windows
from poseidon_caffe.data.window_source import WindowSettings, WindowSource
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.fed import FedLayer, Opened
from poseidon_caffe.layers.registry import register

__all__ = ["WindowData"]


@register("WindowData")
class WindowData(FedLayer):
    """Draws windows of images, warps them to squares, and makes them batches.

    Bottoms: none.  Tops: data (batch_size, 3, crop_size, crop_size), blue, green,
    red; label (batch_size,), 0 for background.

    ``window_data_param``: ``source``, the window file (`data.window_file`);
    ``root_folder`` ("") is put before each path as it is; ``batch_size``;
    ``fg_threshold`` (0.5): windows of at least this overlap are foreground;
    ``bg_threshold`` (0.5): others below this one are background; ``fg_fraction``
    (0.25) of a batch, rounded down, is foreground and comes last; ``context_pad``
    (0) pixels of surroundings on each side of the result; ``crop_mode`` "warp" or
    "square" (widens windows first); ``cache_images`` (false) keeps the files in
    memory; ``scale`` (1).  ``transform_param``: ``crop_size`` (needed), ``mirror``,
    ``mean_file`` (its middle) or ``mean_value``.  Value: ``(pixel - mean) * scale``
    inside the image, 0 around it.

    Windows are drawn with replacement, so there are no epochs; N workers draw what
    one would draw for a batch N times as large.  All read one window file.

    Caffe parity: exact values for a given window, with every rounding of the
    geometry; windows and mirrors are drawn by another generator, and survive a
    resume.  As in Caffe, ``scale`` is that of ``window_data_param``; the one of
    ``transform_param`` has no effect.  Errors where Caffe reads or writes beyond an
    array, or leaves a batch half filled: a missing image, a batch without windows
    to draw from, a mean smaller than the crop, images not numbered 0, 1, 2, ...
    """

    num_top = 2
    has_epochs = False

    def open_source(self) -> Opened:
        """The window file, all of it."""
        param = self.param.window_data_param
        settings = self._settings()
        name = self.own_name(param.source, "window_data_param")
        windows = read_windows(name, param.fg_threshold, param.bg_threshold)
        self._report(windows)
        source = WindowSource(windows, settings, self.transformer)
        side = settings.crop_size
        return Opened(source, (3, side, side), batch_size=settings.batch_size)

    def _settings(self) -> WindowSettings:
        param, side = self.param.window_data_param, self.transformer.settings.crop_size
        if side == 0:
            raise LayerError("transform_param { crop_size } must be at least 1")
        if param.batch_size == 0:
            raise LayerError("batch_size must be at least 1")
        if not 0 <= param.fg_fraction <= 1:
            raise LayerError(f"fg_fraction {param.fg_fraction:g} is not from 0 to 1")
        if 2 * param.context_pad >= side:
            raise LayerError(
                f"context_pad {param.context_pad} on both sides leaves nothing of "
                f"crop_size {side}"
            )
        if param.crop_mode not in {"warp", "square"}:
            raise LayerError(f'crop_mode "{param.crop_mode}": give "warp" or "square"')
        return WindowSettings(
            batch_size=param.batch_size,
            fg_fraction=param.fg_fraction,
            crop_size=side,
            context_pad=param.context_pad,
            square=param.crop_mode == "square",
            scale=param.scale,
            root_folder=param.root_folder,
            cache_images=param.cache_images,
        )

    def _report(self, windows: WindowFile) -> None:
        """Caffe's log lines."""
        param = self.param.window_data_param
        self.say(f"Number of images: {len(windows.images)}")
        for label, count in windows.histogram():
            self.say(f"class {label} has {count} samples")
        self.say(f"Amount of context padding: {param.context_pad}")
        self.say(f"Crop mode: {param.crop_mode}")

    @classmethod
    def examples(cls) -> list[Example]:
        """Three small images: warped, and squared with surroundings."""
        source = f'source: "{_example_windows()}" batch_size: 4'
        crop = "transform_param { crop_size: 8 mirror: true mean_value: 9 } "
        more = 'fg_fraction: 0.5 context_pad: 1 crop_mode: "square" scale: 0.5'
        return [
            Example(f"{crop} window_data_param {{ {body} }}", (), stochastic=True)
            for body in (source, f"{source} {more}")
        ]


@functools.cache
def _example_windows() -> Path:
    """Three images in a temporary folder that lives as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="poseidon-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    blocks = []
    for i in range(3):
        image = (np.arange(3 * 12 * 14) * (i + 1) % 251).astype(np.uint8)
        path = folder / f"{i}.png"
        path.write_bytes(encode_image(image.reshape(3, 12, 14), "png"))
        boxes = f"{i + 1} 0.75 2 1 9 8\n0 0.125 0 0 {5 + i} 7\n"
        blocks.append(f"# {i}\n{path}\n3\n12\n14\n2\n{boxes}")
    listed = folder / "windows.txt"
    listed.write_text("".join(blocks))
    return listed
