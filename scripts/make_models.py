"""Write the prototxts of ``models/`` from their short descriptions in ``zoo/``.

Usage: ``python scripts/make_models.py [DIR]`` (``models`` by default).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from zoo import alexnet, cifar10, googlenet, lenet, resnet, vgg
from zoo.model import Model

FAMILIES = (lenet, cifar10, alexnet, googlenet, vgg, resnet)
MODELS = Path(__file__).resolve().parent.parent / "models"


def all_models() -> Iterator[Model]:
    """Every folder of the zoo."""
    for family in FAMILIES:
        yield from family.models()


def write(root: Path) -> list[Path]:
    """Write every file below ``root``; returns their paths."""
    written = []
    for model in all_models():
        folder = root / model.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in model.files.items():
            path = folder / name
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


if __name__ == "__main__":
    for file in write(Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS):
        print(file)
