"""``layers as L``: ``L.Convolution(bottom, num_output=20)`` makes a layer.

A module of its own so that ``import poseidon_caffe.caffe.layers as L`` works;
see `poseidon_caffe.caffe.net_spec`.
"""

from __future__ import annotations

from typing import Any

from poseidon_caffe.caffe import net_spec as _net_spec


def __getattr__(name: str) -> Any:
    """The maker of layers of type ``name``."""
    return getattr(_net_spec.layers, name)
