"""Fitting a link, what follows from it, and measuring one."""

import math
import random
import sys
import threading
import time

import pytest

from poseidon_caffe.comm.fake import FakeNetwork
from poseidon_caffe.comm.link import (
    LINK_CLASSES,
    MEMORY,
    LinkFit,
    _peers,
    choose_sizes,
    coarse,
    fit,
    link_class,
    measure,
    measure_fit,
)
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.errors import ClusterError
from tests.comm.launch import RANKS, mpirun
from tests.comm.netns import hosts

SIZES = (64, 4096, 1 << 15, 1 << 18, 1 << 20)
GIGABIT = 1.25e8


def test_exact_samples_give_the_line():
    found = fit([(n, 50e-6 + 8e-9 * n) for n in SIZES])
    assert found.alpha_s == pytest.approx(50e-6)
    assert found.beta_s_per_byte == pytest.approx(8e-9)


@pytest.mark.parametrize("seed", range(5))
def test_slow_messages_now_and_then_do_no_harm(seed):
    source = random.Random(seed)
    samples = []
    for size_bytes in SIZES:
        for k in range(7):
            seconds = (50e-6 + 8e-9 * size_bytes) * source.uniform(0.95, 1.05)
            samples.append((size_bytes, seconds + (0.1 if k in (2, 5) else 0)))
    source.shuffle(samples)
    found = fit(samples)
    assert found.alpha_s == pytest.approx(50e-6, rel=0.2)
    assert found.beta_s_per_byte == pytest.approx(8e-9, rel=0.1)


@pytest.mark.parametrize(
    "samples",
    [
        [(64, 1e-9), (1 << 20, 1.0)],
        [(64, 1.0), (1 << 20, 1e-9)],
        [(64, 0.0), (4096, 0.0)],
    ],
)
def test_nonsense_still_gives_a_positive_fit(samples):
    found = fit(samples)
    assert found.alpha_s > 0
    assert found.beta_s_per_byte > 0
    assert math.isfinite(found.alpha_s + found.beta_s_per_byte)


def test_one_size_is_not_enough():
    with pytest.raises(ClusterError, match="two sizes"):
        fit([(64, 1.0), (64, 1.0)])


@pytest.mark.parametrize("kind", LINK_CLASSES, ids=lambda kind: kind.name)
def test_a_link_falls_short_of_its_name_and_keeps_it(kind):
    for share in (0.8, 0.94, 1.0, 1.1):
        assert link_class(share * kind.bytes_per_s) is kind


def test_classes_are_those_of_the_shops():
    assert [kind.name for kind in LINK_CLASSES] == [
        f"{rate} Gbit/s" for rate in ("0.1", "1", "2.5", "10", "25", "40", "100")
    ]
    assert link_class(1.0) is LINK_CLASSES[0]
    assert link_class(1e15) is LINK_CLASSES[-1]


@pytest.mark.parametrize("kind", LINK_CLASSES, ids=lambda kind: kind.name)
def test_sizes_are_stable_powers_within_bounds(kind):
    found = {
        choose_sizes(coarse(LinkFit(alpha_s, share / kind.bytes_per_s), kind), 4)
        for alpha_s in (5e-6, 50e-6, 500e-6)
        for share in (0.9, 1.06, 1.2)
    }
    (sizes,) = found
    part = sizes.merge_bytes // 4
    assert 4 * part == sizes.merge_bytes
    assert part & (part - 1) == 0
    assert sizes.row_bytes & (sizes.row_bytes - 1) == 0
    assert 1 << 18 <= sizes.row_bytes <= 1 << 22
    assert part <= sizes.row_bytes


def test_a_long_way_makes_larger_messages():
    near, far = (
        choose_sizes(coarse(LinkFit(alpha_s, 8e-9), LINK_CLASSES[1]), 4)
        for alpha_s in (100e-6, 20e-3)
    )
    assert far.row_bytes > near.row_bytes
    assert far.merge_bytes > near.merge_bytes


def test_one_rank_of_each_other_machine_is_asked():
    assert _peers(["a", "a", "b", "a", "b", "c"]) == [2, 5]
    assert _peers(["a"] * 4) == [1]
    assert _peers([f"node{rank}" for rank in range(61)]) == [1, 11, 21, 31, 41, 51]


@pytest.mark.parametrize("kind", LINK_CLASSES[1:], ids=lambda kind: kind.name)
def test_a_row_lasts_a_few_milliseconds_and_is_little_latency(kind):
    alpha_s = 30e-6
    sizes = choose_sizes(LinkFit(alpha_s, 1 / kind.bytes_per_s), 8)
    lasts_s = sizes.row_bytes / kind.bytes_per_s
    assert lasts_s < 4e-3
    assert sizes.row_bytes == 1 << 22 or alpha_s < 0.05 * lasts_s


def test_more_owners_cut_larger_buckets():
    link = LinkFit(50e-6, 1 / GIGABIT)
    two, eight = choose_sizes(link, 2), choose_sizes(link, 8)
    assert eight.merge_bytes == 4 * two.merge_bytes
    assert eight.row_bytes == two.row_bytes


def on_every_rank(network, function):
    """What ``function(transport)`` returned or raised on each rank, in threads."""
    found = [None] * network.size

    def run(rank):
        try:
            found[rank] = function(network.transport(rank))
        except ClusterError as error:
            found[rank] = error

    threads = [
        threading.Thread(target=run, args=(rank,)) for rank in range(network.size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


@pytest.mark.parametrize("gbit", [0.1, 1.0])
def test_a_fake_link_is_measured_soon_and_alike_on_all_ranks(gbit):
    network = FakeNetwork(
        3, bandwidth_bytes_s=gbit * GIGABIT, hosts=["node0", "node1", "node2"]
    )
    start_s = time.monotonic()
    found = on_every_rank(network, lambda transport: measure_fit(transport, 20))
    # 0.3 s of its own; the rest is for three threads that share an interpreter.
    assert time.monotonic() - start_s < 1.5
    assert found[0] == found[1] == found[2]
    assert 1 / found[0].beta_s_per_byte == pytest.approx(gbit * GIGABIT, rel=0.3)
    assert 0 < found[0].alpha_s < 5e-3


def test_the_slowest_pair_counts():
    def delay_s(source, peer, tag, size_bytes):
        return 40e-9 * size_bytes if peer == 2 else 0.0

    network = FakeNetwork(3, delay_s=delay_s, hosts=["node0", "node1", "node2"])
    found = on_every_rank(network, lambda transport: measure_fit(transport, 20))
    assert found[0] == found[1] == found[2]
    assert found[0].beta_s_per_byte == pytest.approx(40e-9, rel=0.3)


class Bucket:
    """A link that lets 256 KiB burst, refilled at its rate, as tc's does."""

    def __init__(self, bytes_s):
        self.bytes_s, self.level, self.free_s = bytes_s, 1 << 18, time.monotonic()

    def __call__(self, source, peer, tag, size_bytes):
        if source:
            return 0.0
        now = time.monotonic()
        filled = self.level + (now - self.free_s) * self.bytes_s
        self.level, self.free_s = min(filled, 1 << 18) - size_bytes, now
        return max(-self.level / self.bytes_s, 0.0)


@pytest.mark.parametrize("gbit", [0.1, 1.0])
def test_a_bucket_does_not_deceive(gbit):
    network = FakeNetwork(2, delay_s=Bucket(gbit * GIGABIT), hosts=["node0", "node1"])
    found = on_every_rank(network, lambda transport: measure_fit(transport, 20))
    assert link_class(1 / found[0].beta_s_per_byte).name == f"{gbit:g} Gbit/s"


def test_all_ranks_take_the_same_class_and_sizes():
    network = FakeNetwork(2, bandwidth_bytes_s=0.94 * GIGABIT, hosts=["node0", "node1"])
    found = on_every_rank(
        network, lambda transport: measure(transport, 2, ClusterSettings())
    )
    assert found[0] == found[1]
    assert found[0][0].name == "1 Gbit/s"
    # Nothing is left under way for the courier to stumble on.
    assert network.transport(0).finished() == network.transport(1).finished() == []


def test_ranks_of_one_machine_do_not_measure():
    network = FakeNetwork(3)
    kind, sizes = measure(network.transport(1), 3, ClusterSettings())
    assert kind is MEMORY
    assert sizes.row_bytes == 1 << 22
    assert network.sent_messages == [0, 0, 0]


def test_a_cap_is_the_link():
    capped = ClusterSettings(bandwidth_mbps=1000)
    kind, sizes = measure(FakeNetwork(2).transport(0), 2, capped)
    assert kind.name == "1 Gbit/s"
    assert sizes == choose_sizes(LinkFit(50e-6, 8e-9), 2)


def test_one_rank_has_nobody_to_measure():
    network = FakeNetwork(1)
    assert measure_fit(network.transport(0), 1).alpha_s > 0
    assert network.sent_messages == [0]


def test_a_silent_peer_is_named():
    network = FakeNetwork(3, hosts=["node0", "node1", "node2"])

    def part(transport):
        return None if transport.rank == 2 else measure_fit(transport, 0.4)

    found = on_every_rank(network, part)
    assert isinstance(found[0], ClusterError)
    assert "rank 0: rank 2 (node2, 1002) did not answer for 0.4 s" in str(found[0])
    # Those that wait for rank 0 are more patient: its word comes first.
    assert "rank 1: rank 0 (node0, 1000) did not answer for 0.6 s" in str(found[1])


@pytest.mark.netns
@pytest.mark.parametrize(("count", "mbps"), [(2, 100), (3, 1000)])
def test_links_between_hosts_are_recognised(count, mbps):
    with hosts(count, mbps) as made:
        done = made.run([sys.executable, str(RANKS / "link.py")], timeout_s=60)
    assert done.code == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == count
    assert len({(*line[:2], *line[3:]) for line in lines}) == 1
    assert " ".join(lines[0][3:5]) == f"{mbps / 1000:g} Gbit/s"


@pytest.mark.mpi
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_under_mpirun_agree(size):
    done = mpirun(size, RANKS / "link.py")
    assert done.rc == 0, done.said
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == size, done.said
    assert len({(*line[:2], *line[3:]) for line in lines}) == 1
    alpha_s, beta, took_s, kind = *map(float, lines[0][:3]), lines[0][3]
    assert kind == "memory"
    assert 1e-7 <= alpha_s < 0.05
    assert 1e-12 < beta < 1e-7
    # Its own 0.3 s, and what two cores for four ranks make of them.
    assert took_s < 2.0
