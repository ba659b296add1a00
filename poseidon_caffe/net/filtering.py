"""Which layers belong to a net state: phase, level and stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.errors import GraphError
from poseidon_caffe.schema.messages import NetParameter, NetState
from poseidon_caffe.types import Phase

__all__ = ["filter_net", "net_state", "rule_mismatch"]


def net_state(phase: Phase, level: int = 0, stages: Sequence[str] = ()) -> Any:
    """A NetState message."""
    return NetState(phase=int(phase), level=level, stage=list(stages))


def rule_mismatch(rule: Any, state: Any) -> str | None:
    """Why ``state`` does not meet a NetStateRule, or None when it does."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return f"phase is {Phase(state.phase).name}, not {Phase(rule.phase).name}"
    if rule.HasField("min_level") and state.level < rule.min_level:
        return f"level {state.level} is below min_level {rule.min_level}"
    if rule.HasField("max_level") and state.level > rule.max_level:
        return f"level {state.level} is above max_level {rule.max_level}"
    stages = set(state.stage)
    for stage in rule.stage:
        if stage not in stages:
            return f'stage "{stage}" is absent'
    for stage in rule.not_stage:
        if stage in stages:
            return f'stage "{stage}" is present'
    return None


def _included(layer: Any, state: Any) -> bool:
    if layer.include and layer.exclude:
        msg = f'layer "{layer.name}": give include rules or exclude rules, not both'
        raise GraphError(msg)
    if layer.include:
        return any(rule_mismatch(rule, state) is None for rule in layer.include)
    return all(rule_mismatch(rule, state) is not None for rule in layer.exclude)


def filter_net(param: Any, state: Any) -> Any:
    """A copy of ``param`` with only the layers that ``state`` includes.

    Raises:
        GraphError: if a layer has both include and exclude rules.
    """
    kept = NetParameter()
    kept.CopyFrom(param)
    del kept.layer[:]
    kept.layer.extend(layer for layer in param.layer if _included(layer, state))
    kept.state.CopyFrom(state)
    return kept
