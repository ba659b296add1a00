"""``params as P``: ``P.Pooling.MAX`` and every other enum of layer settings.

A module of its own so that ``import poseidon_caffe.caffe.params as P`` works;
see `poseidon_caffe.caffe.net_spec`.
"""

from __future__ import annotations

from typing import Any

from poseidon_caffe.caffe import net_spec as _net_spec


def __getattr__(name: str) -> Any:
    """The message class of parameter ``name``."""
    return getattr(_net_spec.params, name)
