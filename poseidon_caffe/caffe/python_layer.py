"""Layers of type "Python": a user's class, named by module in the prototxt."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from poseidon_caffe.backend import blob as core
from poseidon_caffe.caffe.alias import install
from poseidon_caffe.caffe.blob import Blob, BlobVec
from poseidon_caffe.caffe.layer import Layer
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.base import Layer as CoreLayer
from poseidon_caffe.types import JsonObject

__all__ = ["Python"]


class Python(CoreLayer):
    """A layer written in Python by the user, as in pycaffe.

    ``python_param { module: "pyloss" layer: "EuclideanLossLayer" param_str: "..." }``
    names a module on PYTHONPATH or in the working directory and a class in it, which
    derives from ``caffe.Layer`` (``import caffe`` gives this library's face).  It has
    the methods ``setup(bottom, top)``, ``reshape(bottom, top)``,
    ``forward(bottom, top)`` and ``backward(top, propagate_down, bottom)``, and finds
    ``self.param_str``, ``self.phase`` and ``self.blobs`` set.  Its exceptions go up
    unchanged, with a note that names the layer.

    Bottoms: any number.
    Tops: any number, shaped by the class; in place if the class can.
    Parameters: what ``setup`` makes by ``self.blobs.add_blob(*shape)``, zero at
        first.  Their gradients accumulate: ``self.blobs[0].diff[...] += ...``.

    Caffe parity: the calls and their order are the same: ``setup`` and ``reshape``
    once, then ``reshape`` before each ``forward``; a loss needs ``loss_weight``.
    Blobs that such a layer touches are stored in plain C order, and a net with one
    fuses no layers.  ``share_in_parallel`` is read and has no effect: every rank has
    a layer of its own.  Beyond Caffe, the class may define ``resume_state()`` and
    ``restore_resume_state(state)``, kept beside snapshots.
    """

    type = "Python"
    allows_in_place = True
    runs_user_code = True

    def __init__(self, param: Any, context: Any) -> None:
        super().__init__(param, context)
        self.user = self._make()
        self._source_tops: list[core.Blob] | None = None

    def _make(self) -> Layer:
        settings = self.param.python_param
        where = f'python_param {{ module: "{settings.module}" layer: '
        where += f'"{settings.layer}" }}'
        cls = getattr(self._module(), settings.layer, None)
        if not callable(cls):
            raise LayerError(self.describe(f"{where}: the module has no such class"))
        foreign = isinstance(cls, type) and not issubclass(cls, Layer)
        # A function that makes the layer does as well as its class.
        with self._naming("__init__"):
            user = None if foreign else cls(self.param)
        if not isinstance(user, Layer):
            problem = f"{where}: must derive from caffe.Layer, unlike {cls!r}"
            raise LayerError(self.describe(problem))
        memory = self.ops.memory
        user._blobs = BlobVec(self.blobs, self.context.dtype, memory)  # noqa: SLF001
        return user

    def _module(self) -> ModuleType:
        name = self.param.python_param.module
        plain = name.strip() and not name.startswith(".") and name.isprintable()
        if not plain or not self.param.python_param.layer:
            problem = "python_param needs a module and a layer (the class's name)"
            raise LayerError(self.describe(f"{problem}, received {name!r}"))
        install()
        here = str(Path.cwd())
        if here not in sys.path and "" not in sys.path:
            # The command's own path starts at its script, not where the user is.
            sys.path.append(here)
        importlib.invalidate_caches()
        try:
            with self._naming("import"):
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # one that the user's module imports
            msg = f'python_param {{ module: "{name}" }} was not found; add its folder '
            msg += "to PYTHONPATH, or start from that folder"
            raise LayerError(self.describe(msg)) from error

    @contextmanager
    def _naming(self, call: str) -> Iterator[None]:
        """Note on what the user's code raises which layer of the net it was."""
        try:
            yield
        except Exception as error:
            settings = self.param.python_param
            where = f"{call} of {settings.module}.{settings.layer}"
            if f'layer "{self.name}"' not in str(error):
                error.add_note(f'raised in layer "{self.name}" (Python), {where}')
            raise

    def setup(self, bottom: Sequence[core.Blob], top: Sequence[core.Blob]) -> None:
        """Hand over settings, then the class's own setup."""
        self._source_tops = None if bottom else list(top)
        self.user.param_str = self.param.python_param.param_str
        self.user.param_str_ = self.user.param_str
        self.user.phase = int(self.phase)
        with self._naming("setup"):
            self.user.setup(_faces(bottom), _faces(top))
        self.param_propagate_down = [True] * len(self.blobs)

    def reshape(self, bottom: Sequence[core.Blob], top: Sequence[core.Blob]) -> None:
        """The class's own."""
        with self._naming("reshape"):
            self.user.reshape(_faces(bottom), _faces(top))

    def forward(self, bottom: Sequence[core.Blob], top: Sequence[core.Blob]) -> None:
        """The class's own."""
        with self._naming("forward"):
            self.user.forward(_faces(bottom), _faces(top))

    def backward(
        self,
        top: Sequence[core.Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[core.Blob],
    ) -> None:
        """The class's own; a parameter with ``lr_mult: 0`` keeps its diff."""
        wanted = zip(self.blobs, self.param_propagate_down, strict=True)
        # Reading a diff also does a clearing that was put off, so that views which
        # the class has kept since its setup are true again.
        kept = [
            (blob.mutable_cpu_diff, None if on else blob.cpu_diff.copy())
            for blob, on in wanted
        ]
        with self._naming("backward"):
            self.user.backward(_faces(top), list(propagate_down), _faces(bottom))
        for diff, before in kept:
            if before is not None:
                diff[...] = before

    def state(self) -> JsonObject:
        """What the class wants kept."""
        return self.user.resume_state()

    def restore_state(self, state: JsonObject) -> None:
        """Give it back."""
        self.user.restore_resume_state(state)

    def skip_batch(self) -> None:
        """A layer without bottoms makes a batch that nobody reads, so it moves on."""
        if self._source_tops is not None:
            self.reshape([], self._source_tops)
            self.forward([], self._source_tops)

    @classmethod
    def examples(cls) -> list[Example]:
        """The shipped `ScaleLayer`, with and without settings."""
        where = 'python_param { module: "poseidon_caffe.caffe.example_layer" layer: '
        return [
            Example(f'{where} "ScaleLayer" }}', num_top=1),
            Example(f'{where} "ScaleLayer" param_str: "-1.5" }}', ((3, 5),), 1),
        ]


def _faces(blobs: Sequence[core.Blob]) -> list[Blob]:
    return [Blob(blob) for blob in blobs]
