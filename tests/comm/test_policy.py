"""Rows or factors: the formulas, the thresholds of the papers, what is refused."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseidon_caffe.comm.link import LINK_CLASSES, MEMORY, LinkClass
from poseidon_caffe.comm.policy import (
    GPU,
    PROCESSOR,
    choose,
    describe,
)
from poseidon_caffe.errors import ClusterError
from tests.comm.nets import ALEXNET, slots_of

SLOW = LinkClass("slow", 1.0)
GIGABIT = LINK_CLASSES[1]


def decide(slots, rows, **changes):
    settings = {
        "itemsize": 4,
        "iter_size": 1,
        "workers": 4,
        "servers": 0,
        "staleness": 0,
        "svb": "auto",
        "link": GIGABIT,
    } | changes
    by_index = dict.fromkeys(range(len(slots)), rows)
    return choose(slots, by_index, **settings)


def matrix(outputs, inputs, *, bias=True):
    slots = slots_of([("fc", (outputs, inputs))])
    return slots if bias else slots[:1]


@pytest.mark.parametrize(
    ("outputs", "inputs", "threshold"),
    [(4096, 25088, 7042), (4096, 4096, 4096), (4096, 9216, 5671), (1000, 1024, 1012)],
    ids=["vgg_fc6", "vgg_fc7", "alexnet_fc6", "googlenet"],
)
def test_thresholds_of_the_design_on_a_slow_link(outputs, inputs, threshold):
    # One byte a second: rebuilding costs next to nothing.
    exact = 2 * outputs * inputs / (outputs + inputs)
    assert round(exact) == threshold
    slots = matrix(outputs, inputs, bias=False)
    for workers in (2, 6, 8):
        rows = (math.ceil(exact) - 1) // workers
        assert workers * rows < exact <= workers * (rows + 1)
        assert decide(slots, rows, workers=workers, link=SLOW)[0].by_factors
        assert not decide(slots, rows + 1, workers=workers, link=SLOW)[0].by_factors


def test_bytes_of_colocated_servers():
    (choice,) = decide(matrix(4096, 9216), 64, workers=4)
    assert choice.rows_bytes == 2 * (4096 * 9216 + 4096) * 3 // 4 * 4
    assert choice.factors_bytes == 64 * 3 * (4096 + 9216) * 4
    assert (choice.slot, choice.bias, choice.name) == (0, 1, "fc")


def test_bytes_of_dedicated_servers():
    # Half of the papers' 2MN(P1 + P2 - 2)/P2 and 2K(P1 - 1)(M + N).
    slots = matrix(100, 200, bias=False)
    (choice,) = decide(slots, 8, workers=6, servers=2, itemsize=8)
    assert choice.rows_bytes == 100 * 200 * (6 + 2 - 2) // 2 * 8
    assert choice.factors_bytes == 8 * 5 * 300 * 8


def test_both_forms_agree_where_every_worker_serves():
    slots = matrix(300, 500)
    (colocated,) = decide(slots, 8, workers=4)
    (dedicated,) = decide(slots, 8, workers=4, servers=4)
    assert colocated.rows_bytes == dedicated.rows_bytes
    assert colocated.factors_bytes == dedicated.factors_bytes


def test_every_pass_of_an_iteration_sends_factors():
    slots = matrix(4096, 9216)
    once, thrice = decide(slots, 8), decide(slots, 8, iter_size=3)
    assert thrice[0].factors_bytes == 3 * once[0].factors_bytes
    assert thrice[0].rows_bytes == once[0].rows_bytes


def test_rebuilding_costs_too_much_on_a_fast_link_only():
    slots = matrix(4096, 25088)
    (slow,) = decide(slots, 64, workers=8, link=GIGABIT)
    (fast,) = decide(slots, 64, workers=8, link=LINK_CLASSES[-1])
    assert slow.factors_bytes < slow.rows_bytes
    assert slow.by_factors
    assert not fast.by_factors
    operations = 2 * 64 * 7 * 4096 * 25088
    # Six arrays pass through memory for the seven eighths that others would update.
    update_s = 6 * 4 * 4096 * 25088 * 7 / 8 / PROCESSOR.update_bytes_per_s
    rebuild_s = operations / PROCESSOR.rebuild_flops_per_s + update_s
    told = f"rebuilding costs {rebuild_s:.3g} s"
    assert told in slow.reason
    assert told in fast.reason
    (on_gpus,) = decide(slots, 64, workers=8, link=LINK_CLASSES[-1], speed=GPU)
    assert on_gpus.by_factors, "which rebuild in a hundredth of the time"
    assert on_gpus.factors_bytes == fast.factors_bytes


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 256),
    st.integers(2, 32),
    st.sampled_from([*LINK_CLASSES, MEMORY]),
)
def test_factors_never_send_more_than_rows_unless_told(m, n, rows, workers, link):
    (choice,) = decide(matrix(m, n), rows, workers=workers, link=link)
    assert not choice.by_factors or choice.factors_bytes <= choice.rows_bytes
    (told,) = decide(matrix(m, n), rows, workers=workers, link=link, svb="on")
    assert told.by_factors
    assert told.reason == "--svb on"
    (never,) = decide(matrix(m, n), rows, workers=workers, link=link, svb="off")
    assert not never.by_factors
    assert never.reason == "--svb off"


def test_only_inner_products_are_decided_on():
    choices = decide(slots_of(ALEXNET), 64)
    assert [choice.name for choice in choices] == ["fc6", "fc7", "fc8"]
    assert [choice.slot for choice in choices] == [10, 12, 14]
    assert [choice.bias for choice in choices] == [11, 13, 15]


def test_a_bias_that_does_not_move_is_left_out():
    (choice,) = decide(matrix(100, 200)[:1], 1)
    assert choice.bias is None
    assert choice.rows_bytes == 2 * 100 * 200 * 3 // 4 * 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"users": (0, 3)}, "2 layers share the weights"),
        ({"lr_mult": 0.0}, "the weights are not learned: lr_mult is 0"),
    ],
)
@pytest.mark.parametrize("svb", ["auto", "on"])
def test_weights_that_go_by_rows_whatever_is_asked(change, reason, svb):
    weights, bias = matrix(4096, 9216)
    (choice,) = decide([replace(weights, **change), bias], 8, svb=svb)
    assert not choice.by_factors
    assert choice.reason == reason
    assert reason in describe([choice])[0]


@pytest.mark.parametrize("change", [{"users": (0, 3)}, {"lr_mult": 0.0}])
def test_a_bias_that_cannot_be_rebuilt_keeps_its_weights_by_rows(change):
    weights, bias = matrix(4096, 9216)
    (choice,) = decide([weights, replace(bias, **change)], 8, svb="on")
    assert not choice.by_factors
    assert "bias" in choice.reason


def test_an_unknown_batch_goes_by_rows():
    (choice,) = choose(
        matrix(4096, 9216),
        {},
        itemsize=4,
        iter_size=1,
        workers=4,
        servers=0,
        staleness=0,
        svb="on",
        link=GIGABIT,
    )
    assert not choice.by_factors
    assert choice.reason == "the batch size is not known"
    assert describe([choice]) == [f"fc: rows, 227 MB ({choice.reason})"]


def test_staleness_takes_rows_and_says_so():
    (choice,) = decide(matrix(4096, 9216), 8, staleness=2)
    assert not choice.by_factors
    assert choice.reason == "factors need --staleness 0, not 2"


def test_staleness_with_factors_demanded_is_refused():
    with pytest.raises(ClusterError, match=r"--svb on with --staleness 2.*--svb auto"):
        decide(matrix(4096, 9216), 8, staleness=2, svb="on")


def test_unknown_mode_is_refused():
    with pytest.raises(ClusterError, match='auto, on, off, received "yes"'):
        decide([], 8, svb="yes")


def test_one_worker_keeps_rows_unless_told():
    (choice,) = decide(matrix(4096, 9216), 8, workers=1)
    assert not choice.by_factors
    assert choice.reason == "there is one worker"
    assert decide(matrix(4096, 9216), 8, workers=1, svb="on")[0].by_factors


def test_log_lines_give_both_figures():
    factors, rows = describe(
        [
            *decide(matrix(4096, 9216), 64),
            *decide(matrix(10, 500), 64),
        ]
    )
    assert factors.startswith("fc: factors, 10.2 MB instead of 227 MB by rows (saves ")
    assert factors.endswith(" at 1 Gbit/s, rebuilding costs 179 ms)")
    told = "fc: rows, 30.1 kB instead of 392 kB as factors (fewer bytes by rows)"
    assert rows == told
    (long,) = describe(decide(matrix(4096, 25088), 64, workers=8, link=GIGABIT))
    assert "saves 5.34 s at 1 Gbit/s, rebuilding costs 1.03 s" in long
    (edge,) = describe(decide(matrix(6665, 25, bias=False), 8, svb="off"))
    assert edge.startswith("fc: rows, 1 MB instead of 642 kB as factors")
