"""Random generators as JSON, so that a resumed run draws the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from poseidon_caffe.types import JsonObject

__all__ = ["generator_state", "restore_generator"]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [int(item) for item in value]
    return int(value) if isinstance(value, np.integer) else value


def generator_state(rng: np.random.Generator) -> JsonObject:
    """The state of ``rng`` in lists, ints and strings."""
    state: JsonObject = _plain(rng.bit_generator.state)
    return state


def restore_generator(rng: np.random.Generator, state: JsonObject) -> None:
    """Put ``rng`` where `generator_state` found it."""
    words = np.array(state["state"]["state"], np.uint64)
    rng.bit_generator.state = {**state, "state": {"state": words}}
