"""Recordings of Caffe 1.0 (tests/golden/): loading, replaying and comparing.

How they were made, and the tolerances: "golden" in docs/testing or the README that
lies with them.  Everything here goes through the pycaffe face, as the recordings did.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent / "golden"

RELATIVE, OF_LARGEST = 1e-4, 2e-5
L2_WITHIN, SAMPLES_WITHIN = 2e-3, 5e-3


def cases(kind: str) -> list[str]:
    """Names of the recordings in tests/golden/<kind>/*.npz."""
    found = sorted(path.stem for path in (GOLDEN / kind).glob("*.npz"))
    assert found, f"no recordings in {GOLDEN / kind}"
    return found


@dataclass(frozen=True)
class Recording:
    """One .npz: texts and arrays by name."""

    name: str
    arrays: dict[str, np.ndarray]

    @classmethod
    def load(cls, kind: str, name: str) -> Recording:
        with np.load(GOLDEN / kind / f"{name}.npz") as stored:
            return cls(name, {key: stored[key] for key in stored.files})

    def text(self, key: str) -> str:
        return str(self.arrays[key])

    def under(self, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
        """(rest of the key, array) of all keys that begin with ``prefix/``."""
        for key, array in self.arrays.items():
            if key.startswith(f"{prefix}/"):
                yield key[len(prefix) + 1 :], array

    def write(self, key: str, path: Path) -> str:
        path.write_text(self.text(key))
        return str(path)


def assert_close(got: Any, expected: Any, what: str, times: float = 1.0) -> None:
    """|a-b| <= 1e-4 |b| + 2e-5 max|b|, times ``times``, and the same shape."""
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, Caffe's is {b.shape}"
    if not b.size:
        return
    bound = times * (RELATIVE * np.abs(b) + OF_LARGEST * np.abs(b).max())
    # Written so that a NaN on one side only counts as off.
    off = ~((np.abs(a - b) <= bound) | (np.isnan(a) & np.isnan(b)))
    first = tuple(int(i[0]) for i in off.nonzero()) if off.any() else ()
    assert not off.any(), (
        f"{what}{list(first)}: {a[first]} but Caffe has {b[first]}; "
        f"{np.count_nonzero(off)} of {a.size} are off, "
        f"the largest difference is {np.abs(a - b).max()}"
    )


def summaries() -> dict[str, Any]:
    """nets.json: per net its blobs' and gradients' statistics."""
    loaded: dict[str, Any] = json.loads((GOLDEN / "nets" / "nets.json").read_text())
    return loaded


def _generator(key: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)


def regenerated_parameter(
    layer: str, kind: str, index: int, shape: tuple[int, ...]
) -> np.ndarray:
    """What the recording used for a parameter: drawn by its name, not stored."""
    r = _generator(f"{layer}/{index}")
    if kind == "BatchNorm":
        # The recording drew all three of a layer's kinds and kept one, so the
        # variances are the uniform numbers that follow as many normal ones.
        return (r.randn(*shape) * 0.1, r.rand(*shape) + 0.5, np.ones(shape))[index]
    if kind == "Scale" and index == 0:
        return 1 + 0.1 * r.randn(*shape)
    if len(shape) == 1:
        return r.randn(*shape) * 0.1
    return r.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))


def regenerated_input(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What the recording used for an input."""
    r = _generator(f"input/{name}")
    return r.randint(0, 10, shape) if name == "label" else r.randn(*shape)


def sampled(array: np.ndarray, expected: dict[str, Any]) -> np.ndarray:
    """The 16 values of ``array`` that the recording kept."""
    places = _generator(f"samples/{array.size}").randint(0, array.size, 16)
    assert places.tolist() == expected["at"]
    return array.reshape(-1)[places].astype(np.float64)


def samples_off(low: np.ndarray, high: np.ndarray, expected: dict, size: int) -> float:
    """How far Caffe's samples lie outside low..high, in units of the tolerance."""
    values = np.array(expected["values"])
    off = np.maximum(np.maximum(low - values, values - high), 0).max()
    rms = expected["l2"] / np.sqrt(size)
    return float(off / (SAMPLES_WITHIN * rms)) if off else 0.0


def assert_norm(got: np.ndarray, expected: dict[str, Any], what: str) -> None:
    """The shape, if given, and the L2 norm within 2e-3."""
    assert list(got.shape) == expected.get("shape", list(got.shape)), what
    norm, wanted = float(np.linalg.norm(got.astype(np.float64))), expected["l2"]
    assert abs(norm - wanted) <= L2_WITHIN * wanted, (
        f"{what}: L2 norm {norm}, Caffe's is {wanted}"
    )


def assert_summary(got: np.ndarray, expected: dict[str, Any], what: str) -> None:
    """The norm, and the 16 samples within 5e-3 of the rms."""
    assert_norm(got, expected, what)
    samples = sampled(got, expected)
    off = samples_off(samples, samples, expected, got.size)
    assert off <= 1, f"{what}: samples off by {off:.3g} times the tolerance"
