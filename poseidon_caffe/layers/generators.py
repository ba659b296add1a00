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


def generator_state(rng: Any) -> JsonObject:
    """The state of a backend's generator in lists, ints and strings."""
    state: JsonObject = (
        _plain(rng.bit_generator.state)
        if isinstance(rng, np.random.Generator)
        else rng.state()
    )
    return state


def restore_generator(rng: Any, state: JsonObject) -> None:
    """Put ``rng`` where `generator_state` found it.

    A state that another kind of backend saved (the run goes on on a CPU that was
    begun on a GPU, or the reverse) gives other numbers, the same in every such resume.
    """
    if not isinstance(rng, np.random.Generator):
        rng.restore(state)
    elif "draws" in state:
        seed = np.random.SeedSequence([state["key"], state["draws"]])
        rng.bit_generator.state = np.random.SFC64(seed).state
    else:
        words = np.array(state["state"]["state"], np.uint64)
        rng.bit_generator.state = {**state, "state": {"state": words}}
