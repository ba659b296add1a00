"""A rank's whole part of a cluster: roles, start, failure, end."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import numpy as np
import pytest

from poseidon_caffe.comm.cluster import Cluster
from poseidon_caffe.comm.fake import FakeAbortError, FakeNetwork
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.errors import ClusterError, DataError
from tests.comm.couriers import on_threads
from tests.comm.support import Tiny, drive, together


@pytest.mark.parametrize(("size", "servers"), [(1, 1), (2, 2), (3, 7)])
def test_servers_must_leave_a_worker(size, servers):
    network, settings = FakeNetwork(size), ClusterSettings(servers=servers)
    with pytest.raises(ClusterError) as caught:
        Cluster(network.transport(0), settings, print)
    assert f"--servers {servers} of {size} ranks" in str(caught.value)
    assert "start more ranks, or fewer servers" in str(caught.value)


def test_clipping_and_staleness_contradict_each_other():
    def work(rank, cluster):
        with pytest.raises(ClusterError) as caught:
            cluster.attach(Tiny().model(clip_gradients=1.0))
        return str(caught.value)

    for text in together(2, ClusterSettings(staleness=1), work):
        assert "clip_gradients" in text
        assert "--staleness 0" in text


def test_an_unknown_order_of_sending_is_refused():
    def work(rank, cluster):
        with pytest.raises(ClusterError, match="update_sort_policy"):
            cluster.attach(Tiny().model())

    settings = ClusterSettings(staleness=1, update_sort_policy="LIFO")
    together(2, settings, work)


def test_start_values_are_handed_to_all_ranks():
    def work(rank, cluster):
        own = [np.full(5000, float(rank)), np.full(3, rank, np.int64)]
        cluster.broadcast(own)
        if not cluster.roles.works:
            cluster.serve()
        return [set(array.tolist()) for array in own]

    assert together(3, ClusterSettings(servers=1), work) == [[{0.0}, {0}]] * 3


def test_it_begins_where_a_snapshot_ended():
    def work(rank, cluster):
        tiny = Tiny(widths=(4, 3))
        attached = cluster.attach(tiny.model(iteration=70))
        assert attached.observer.iteration == 70
        drive(tiny, attached, rank, 2)
        return sorted({iteration for iteration, _ in tiny.updater.applied})

    for svb in ("on", "off"):
        found = together(2, ClusterSettings(svb=svb), work)
        assert [70, 71] in found
        assert all(each in ([70, 71], []) for each in found)


@pytest.mark.parametrize("servers", [0, 1])
def test_servers_wait_for_the_end_however_late_it_comes(servers):
    def work(rank, cluster):
        tiny = Tiny(widths=(4, 3))
        attached = cluster.attach(tiny.model())
        if attached.sync is None:
            cluster.serve()
            return
        drive(tiny, attached, rank, 1)
        if rank == 0:
            time.sleep(0.05)

    settings = ClusterSettings(svb="off", servers=servers)
    together(3, settings, work)


class OnHost:
    """A mirror on a server: only the host's own copy of the values may be used."""

    def __init__(self, blob):
        self.dtype, self.mutable_cpu_data = blob.dtype, blob.mutable_cpu_data

    def touch(self):
        pass


def test_servers_take_no_memory_for_copies_to_a_device():
    def work(rank, cluster):
        tiny = Tiny(widths=(4, 3))
        model = tiny.model()
        if not cluster.roles.works:
            model = replace(model, blobs=[OnHost(blob) for blob in tiny.blobs])
        attached = cluster.attach(model)
        if attached.sync is None:
            cluster.serve()
        else:
            drive(tiny, attached, rank, 4)
            attached.sync.finish()
        return [blob.cpu_data.copy() for blob in tiny.blobs]

    *workers, server = together(3, ClusterSettings(svb="off", servers=1), work)
    for values in workers:
        for one, other in zip(values, server, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_a_rank_that_fails_ends_the_others(culprit):
    """As the command does: `give_up`, then abort; nobody waits for a timeout."""
    network = FakeNetwork(4, delay_s=(0, 1e-3))
    settings = ClusterSettings(svb="off", servers=1)

    def run(rank):
        cluster = Cluster(network.transport(rank), settings, lambda text: None)
        tiny = Tiny(widths=(4, 3))

        def look(iteration, layer):
            if rank == culprit and iteration == 3:
                raise DataError("record 7 is damaged")

        try:
            attached = cluster.attach(tiny.model())
            if attached.sync is None:
                cluster.serve()
            else:
                drive(tiny, attached, rank, 9, before_layer=look)
        except (ClusterError, DataError) as error:
            if rank == culprit:
                cluster.watchman.give_up()
                with contextlib.suppress(FakeAbortError):
                    cluster.transport.abort(1)
            return error
        raise AssertionError("trained to the end")

    since = time.monotonic()
    errors = on_threads(network, run)
    assert time.monotonic() - since < 5
    assert isinstance(errors.pop(culprit), DataError)
    for error in errors:
        assert f"rank {culprit} aborted the job" in str(error)


def test_close_is_reached_with_nothing_under_way():
    def work(rank, cluster):
        tiny = Tiny(widths=(30, 20))
        attached = cluster.attach(tiny.model())
        drive(tiny, attached, rank, 3)
        attached.sync.finish()
        courier = cluster.courier
        return lambda: not courier._thread.is_alive()

    settings = ClusterSettings(svb="off", bandwidth_mbps=200)
    ended = together(3, settings, work, delay_s=(0, 0.002))
    assert all(each() for each in ended)
