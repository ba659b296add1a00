"""Replicas of factor slots: compared now and then, and mended."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.comm import cluster as cluster_module
from poseidon_caffe.comm.replicas import checksum
from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.support import Tiny, drive, together


def test_the_checksum_tells_bits_and_order():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(4, dtype=np.float32)
    own = checksum([a, b])
    assert own == checksum([a.copy(), b.copy()])
    assert own != checksum([b, a])
    assert own != checksum([a])
    c = a.copy()
    c[1, 2] = np.nextafter(c[1, 2], 9)
    assert own != checksum([c, b])
    assert checksum([-np.zeros(2)]) != checksum([np.zeros(2)])
    assert checksum([]) == 0


def run(settings, spoil, iterations=4, size=3):
    """States and what was told, with ``spoil(tiny, rank, iteration)`` along the way."""

    def work(rank, cluster):
        tiny, told = Tiny(dense=(1,)), []
        cluster.tell = told.append
        attached = cluster.attach(tiny.model())

        def look(iteration, layer):
            if layer == 0:
                spoil(tiny, rank, iteration)

        drive(tiny, attached, rank, iterations, before_layer=look)
        history = np.concatenate([tiny.updater.history[k] for k in (0, 1, 4, 5)])
        return tiny.state(), history, told, [blob.version for blob in tiny.blobs]

    return together(size, settings, work, delay_s=(0, 5e-4))


@pytest.mark.parametrize("culprit", [0, 2])
def test_a_drifted_replica_is_told_and_mended(culprit):
    def spoil(tiny, rank, iteration):
        if rank == culprit and iteration == 1:
            tiny.blobs[4].data[0, 0] = np.nextafter(tiny.blobs[4].data[0, 0], 9)
            tiny.updater.history[0][3] += 1e-9

    found = run(ClusterSettings(svb="on", check_replicas_iters=2), spoil)
    for state, history, told, _ in found:
        np.testing.assert_array_equal(history, found[0][1])
        np.testing.assert_array_equal(state, found[0][0])
        (text,) = told
        assert "ip0/0, ip0/1, ip2/0, ip2/1" in text
        others = [1, 2] if culprit == 0 else [2]
        assert f"ranks {others}" in text
        assert "--svb off" in text


def test_an_unspoilt_run_tells_nothing():
    found = run(ClusterSettings(svb="on", check_replicas_iters=1), lambda *_: None)
    assert [told for _, _, told, _ in found] == [[]] * 3


@pytest.mark.parametrize(
    "settings",
    [
        ClusterSettings(svb="on", check_replicas_iters=0),
        ClusterSettings(svb="on", check_replicas_iters=5),
    ],
)
def test_not_before_it_is_due(settings):
    def spoil(tiny, rank, iteration):
        if rank == 1 and iteration == 1:
            tiny.blobs[4].data[0, 0] += 1

    found = run(settings, spoil)
    assert [told for _, _, told, _ in found] == [[]] * 3
    assert not np.array_equal(found[0][0], found[1][0])


def test_rows_have_no_replicas_to_compare(monkeypatch):
    made = []
    real = cluster_module.ReplicaCheck
    monkeypatch.setattr(
        cluster_module, "ReplicaCheck",
        lambda *args: made.append(real(*args)) or made[-1],
    )  # fmt: skip
    settings = ClusterSettings(svb="off", check_replicas_iters=1)
    run(settings, lambda *_: None, iterations=1)
    assert len(made) == 3
    assert not any(check.is_due(k) for check in made for k in range(5))
