from __future__ import annotations

import pytest

from poseidon_caffe.errors import GraphError
from poseidon_caffe.net.filtering import filter_net, net_state, rule_mismatch
from poseidon_caffe.schema.messages import NetStateRule
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.types import Phase
from tests.net.support import DATA, make_net

TRAIN = net_state(Phase.TRAIN)
TEST = net_state(Phase.TEST)


def kept(rules, state):
    """Whether a layer with these rules belongs to a net of that state."""
    net = parse_net(f'layer {{ name: "x" type: "Silence" {rules} }}')
    return len(filter_net(net, state).layer) == 1


@pytest.mark.parametrize(
    ("rules", "in_train", "in_test"),
    [
        ("", True, True),
        ("include { phase: TRAIN }", True, False),
        ("include { phase: TEST }", False, True),
        ("exclude { phase: TRAIN }", False, True),
        ("include { }", True, True),
        ("exclude { }", False, False),
        ("include { phase: TEST } include { phase: TRAIN }", True, True),
        ("exclude { phase: TEST } exclude { phase: TRAIN }", False, False),
        ('include { phase: TEST stage: "x" } include { phase: TRAIN }', True, False),
        ('exclude { phase: TEST stage: "x" } exclude { phase: TRAIN }', False, True),
    ],
)
def test_phase(rules, in_train, in_test):
    assert kept(rules, TRAIN) is in_train
    assert kept(rules, TEST) is in_test


@pytest.mark.parametrize(
    ("rule", "levels"),
    [
        ("", {0, 1, 2, 3, 4}),
        ("min_level: 2", {2, 3, 4}),
        ("max_level: 2", {0, 1, 2}),
        ("min_level: 1 max_level: 3", {1, 2, 3}),
        ("min_level: 3 max_level: 1", set()),
        ("max_level: -1", set()),
        ("min_level: -1", {0, 1, 2, 3, 4}),
    ],
)
def test_levels(rule, levels):
    states = {level: net_state(Phase.TRAIN, level) for level in range(5)}
    included = {n for n, s in states.items() if kept(f"include {{ {rule} }}", s)}
    excluded = {n for n, s in states.items() if kept(f"exclude {{ {rule} }}", s)}
    assert included == levels
    assert excluded == set(range(5)) - levels


@pytest.mark.parametrize(
    ("rule", "stages", "meets"),
    [
        ('stage: "a"', [], False),
        ('stage: "a"', ["a"], True),
        ('stage: "a"', ["b", "a"], True),
        ('stage: "a" stage: "b"', ["a"], False),
        ('stage: "a" stage: "b"', ["b", "a"], True),
        ('not_stage: "a"', [], True),
        ('not_stage: "a"', ["a"], False),
        ('not_stage: "a" not_stage: "b"', ["b"], False),
        ('stage: "a" not_stage: "b"', ["a"], True),
        ('stage: "a" not_stage: "b"', ["a", "b"], False),
    ],
)
def test_stages(rule, stages, meets):
    state = net_state(Phase.TEST, stages=stages)
    assert kept(f"include {{ {rule} }}", state) is meets
    assert kept(f"exclude {{ {rule} }}", state) is not meets


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("phase: TEST", "phase is TRAIN, not TEST"),
        ("min_level: 5", "level 3 is below min_level 5"),
        ("max_level: 2", "level 3 is above max_level 2"),
        ('stage: "deploy"', 'stage "deploy" is absent'),
        ('not_stage: "a"', 'stage "a" is present'),
        ('phase: TRAIN min_level: 3 max_level: 3 stage: "a" not_stage: "b"', None),
    ],
)
def test_the_reason_is_told(rule, why):
    state = net_state(Phase.TRAIN, 3, ["a"])
    assert rule_mismatch(parse_prototxt(rule, NetStateRule), state) == why


def test_order_and_the_rest_are_kept_and_the_original_too():
    net = parse_net(
        'name: "n" force_backward: true '
        'layer { name: "a" type: "Silence" }'
        'layer { name: "b" type: "Silence" include { phase: TEST } }'
        'layer { name: "c" type: "Silence" }'
    )
    filtered = filter_net(net, TRAIN)
    assert [x.name for x in filtered.layer] == ["a", "c"]
    assert (filtered.name, filtered.force_backward) == ("n", True)
    assert filtered.state.phase == Phase.TRAIN
    assert len(net.layer) == 3


def test_include_and_exclude_exclude_each_other():
    rules = "include { phase: TRAIN } exclude { phase: TEST }"
    with pytest.raises(GraphError, match=r'layer "x": give include rules or exclude'):
        kept(rules, TRAIN)


STAGED = DATA + (
    'layer { name: "s" type: "Silence" bottom: "data" include { stage: "on" } }'
    'layer { name: "l" type: "Silence" bottom: "label" include { min_level: 2 } }'
)


def test_nets_take_level_and_stages_and_their_own_stages_too():
    def names(text, *state):
        return make_net(text, state=state).layer_names

    assert names(STAGED, 0, ()) == ["data"]
    assert names(STAGED, 2, ("off", "on")) == ["data", "s", "l"]
    assert names('state { stage: "on" }' + STAGED, 0, ("off",)) == ["data", "s"]
    net = make_net('state { stage: "on" }' + STAGED, state=(0, ("on", "off")))
    assert list(net.param.state.stage) == ["on", "off"]
