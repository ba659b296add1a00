"""Counting bytes, and the formulas that they are held against."""

import pytest

from poseidon_caffe.comm.link import LINK_CLASSES, MEMORY, LinkFit, choose_sizes
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.policy import choose
from poseidon_caffe.comm.rows import cut
from poseidon_caffe.comm.tags import factors_tag, gradient_tag, values_tag
from poseidon_caffe.comm.traffic import (
    CONTROL,
    FACTORS,
    ROWS,
    STATISTICS,
    Group,
    Traffic,
    expected_bytes,
    formula_bytes,
)
from tests.comm.nets import LENET, NETS, slots_of

BATCH = 32


def plan_of(layers, size, *, servers=0, svb="auto", link=LINK_CLASSES[1]):
    slots = slots_of(layers)
    roles = [Roles.of(rank, size, servers) for rank in range(size)]
    choices = choose(
        slots,
        dict.fromkeys(range(len(slots)), BATCH),
        itemsize=4,
        iter_size=1,
        workers=len(roles[0].workers),
        servers=servers,
        staleness=0,
        svb=svb,
        link=link,
    )
    away = {c.slot for c in choices if c.by_factors}
    away |= {c.bias for c in choices if c.by_factors}
    sizes = choose_sizes(LinkFit(50e-6, 1 / link.bytes_per_s), len(roles[0].servers))
    rows = cut(
        [slot for slot in slots if slot.index not in away],
        dict.fromkeys(range(len(slots)), "float32"),
        roles[0].servers,
        merge_bytes=sizes.merge_bytes,
        row_bytes=sizes.row_bytes,
    )
    return rows, choices, slots, roles


def totals(flows):
    return (
        sum(flow.sent_bytes for flow in flows.values()),
        sum(flow.received_bytes for flow in flows.values()),
    )


def values_of(layers):
    return sum(
        slot.shape[0] if len(slot.shape) == 1 else _product(slot.shape)
        for slot in slots_of(layers)
    )


def _product(shape):
    count = 1
    for axis in shape:
        count *= axis
    return count


@pytest.mark.parametrize("link", [LINK_CLASSES[1], MEMORY], ids=lambda each: each.name)
@pytest.mark.parametrize("svb", ["off", "auto", "on"])
@pytest.mark.parametrize("size", [2, 3, 4, 8])
@pytest.mark.parametrize("net", NETS)
def test_plans_keep_within_three_percent_of_the_formulas(net, size, svb, link):
    rows, choices, slots, roles = plan_of(NETS[net], size, svb=svb, link=link)
    for role in roles:
        planned = totals(expected_bytes(rows, choices, slots, role))
        closed = totals(formula_bytes(rows, choices, slots, role))
        assert planned == pytest.approx(closed, rel=0.03)


@pytest.mark.parametrize("servers", [1, 2, 3])
@pytest.mark.parametrize("net", NETS)
def test_plans_with_dedicated_servers_keep_to_theirs(net, servers):
    rows, choices, slots, roles = plan_of(NETS[net], 6, servers=servers)
    for role in roles:
        planned = totals(expected_bytes(rows, choices, slots, role))
        closed = totals(formula_bytes(rows, choices, slots, role))
        assert planned == pytest.approx(closed, rel=0.03)


@pytest.mark.parametrize("size", [2, 3, 4, 8])
@pytest.mark.parametrize("net", NETS)
def test_rows_move_what_an_optimal_all_reduce_moves(net, size):
    rows, choices, slots, roles = plan_of(NETS[net], size, svb="off")
    closed = 2 * values_of(NETS[net]) * 4 * (size - 1) / size
    for role in roles:
        assert totals(formula_bytes(rows, choices, slots, role)) == pytest.approx(
            (closed, closed)
        )
        assert totals(expected_bytes(rows, choices, slots, role)) == pytest.approx(
            (closed, closed), rel=0.03
        )


def test_all_that_is_sent_is_received():
    for servers in (0, 2):
        rows, choices, slots, roles = plan_of(NETS["resnet50"], 5, servers=servers)
        flows = [totals(expected_bytes(rows, choices, slots, role)) for role in roles]
        assert sum(sent for sent, _ in flows) == sum(got for _, got in flows)


def test_servers_that_only_serve_carry_every_worker():
    rows, choices, slots, roles = plan_of(LENET, 4, servers=1, svb="off")
    size_bytes = 4 * values_of(LENET)
    for role in roles[:3]:
        assert totals(expected_bytes(rows, choices, slots, role)) == (size_bytes,) * 2
    served = totals(expected_bytes(rows, choices, slots, roles[3]))
    assert served == (3 * size_bytes,) * 2


def run(traffic, rows, choices, role, iterations):
    """Count what the cluster's messages would be."""
    for _ in range(iterations):
        for row in rows:
            for worker in role.workers:
                if (worker == role.rank) == (row.owner == role.rank):
                    continue
                if role.rank == worker:
                    traffic.sent(gradient_tag(row.index), row.size_bytes)
                    traffic.received(values_tag(row.index), row.size_bytes)
                else:
                    traffic.received(gradient_tag(row.index), row.size_bytes)
                    traffic.sent(values_tag(row.index), row.size_bytes)
        for choice in choices:
            if choice.by_factors and role.works:
                for count in (traffic.sent, traffic.received):
                    count(factors_tag(choice.slot, 0), choice.factors_bytes // 3)
                    count(
                        factors_tag(choice.slot, 1),
                        choice.factors_bytes - choice.factors_bytes // 3,
                    )


@pytest.mark.parametrize("servers", [0, 2])
def test_counted_messages_come_out_as_planned(servers):
    rows, choices, slots, roles = plan_of(NETS["resnet50"], 5, servers=servers)
    for role in roles:
        traffic = Traffic(rows, choices, slots, role)
        run(traffic, rows, choices, role, 2)
        expected = expected_bytes(rows, choices, slots, role)
        counted = traffic.totals()
        assert set(counted) == set(expected)
        for group, flow in counted.items():
            assert flow.sent_bytes == pytest.approx(2 * expected[group].sent_bytes)
            assert flow.received_bytes == pytest.approx(
                2 * expected[group].received_bytes
            )


def test_groups_say_what_travels_how():
    rows, choices, slots, roles = plan_of(
        [("conv", (10, 5, 3, 3)), ("bn", (10,)), ("fc", (400, 500))], 2, svb="on"
    )
    flows = expected_bytes(rows, choices, slots, roles[0])
    assert set(flows) <= {
        Group("conv", ROWS),
        Group("bn", STATISTICS),
        Group("fc", FACTORS),
    }
    assert flows[Group("fc", FACTORS)].sent_bytes == BATCH * 900 * 4
    dedicated = expected_bytes(rows, choices, slots, Roles(2, (0, 1), (2,)))
    assert Group("fc", FACTORS) not in dedicated


def test_report_is_an_aligned_table_per_iteration():
    rows, choices, slots, roles = plan_of(LENET, 4, svb="off")
    traffic = Traffic(rows, choices, slots, roles[1])
    run(traffic, rows, choices, roles[1], 3)
    traffic.sent(1, 3_000_000)
    header, *lines = traffic.report(3)
    assert header.split() == [
        *("layer", "kind", "sent", "MB", "formula", "received", "MB", "formula")
    ]
    assert [line.split()[0] for line in lines] == [
        *("conv1", "conv2", "ip1", "ip2", "control", "total")
    ]
    assert len({len(line) for line in [header, *lines]}) == 1
    layer, kind, sent, formula, received, _ = lines[2].split()
    assert (layer, kind) == ("ip1", "rows")
    assert float(formula) == pytest.approx(2 * 400_500 * 4 * 0.75 / 1e6, abs=1e-3)
    assert float(sent) == float(received)
    assert lines[-2].split() == ["control", "1.000", "0.000", "0.000", "0.000"]
    assert float(lines[-1].split()[1]) == pytest.approx(431_080 * 6e-6, rel=0.03)


def test_control_is_told_apart_and_clear_forgets():
    rows, choices, slots, roles = plan_of(LENET, 2)
    traffic = Traffic(rows, choices, slots, roles[0])
    traffic.sent(1, 8)
    traffic.received(104, 100)
    traffic.received(2_000_000, 40)
    (found,) = traffic.totals().items()
    assert found[0] == Group("", CONTROL)
    assert (found[1].sent_bytes, found[1].received_bytes) == (8, 140)
    traffic.clear()
    assert not traffic.totals()
