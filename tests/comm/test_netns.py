"""The hosts that other tests and the benchmarks rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.cluster.namespaces import ROOT, _names, remove_leftovers
from tests.comm.netns import hosts

pytestmark = pytest.mark.netns

# Payload as a share of what a link carries: 1448 of each 1514 bytes.
PAYLOAD = 1448 / 1514

WHO = """
import os, socket, sys, time
from mpi4py import MPI
comm = MPI.COMM_WORLD
open("/dev/shm/mine", "w").write(str(comm.rank))
comm.Barrier()
seen = open("/dev/shm/mine").read()
mine = [comm.rank, socket.gethostname(), seen, os.environ.get("WORDS")]
found = comm.gather(mine)
if comm.rank == 0:
    import json
    print(json.dumps(found))
"""

SPEED = """
import json, time
import numpy as np
from mpi4py import MPI
comm = MPI.COMM_WORLD
peer = 1 - comm.rank
out, into = (np.zeros(4 << 20, np.uint8) for _ in range(2))
def timed(action, times):
    comm.Barrier()
    start = time.perf_counter()
    for _ in range(times):
        action()
    comm.Barrier()
    return times * out.size / (time.perf_counter() - start)
def one_way():
    comm.Send(out, 1) if comm.rank == 0 else comm.Recv(into, 0)
def both_ways():
    comm.Sendrecv(out, peer, 0, into, peer, 0)
one_way()
both_ways()
found = [timed(one_way, 4), timed(both_ways, 4)]
if comm.rank == 0:
    print(json.dumps(found))
"""

COUNT = """
import sys, pathlib
import numpy as np
from mpi4py import MPI
comm = MPI.COMM_WORLD
box = np.zeros(1)
for i in range(10**6):
    if comm.rank == 0:
        comm.Send(box, 1)
        comm.Recv(box, 1)
        pathlib.Path(sys.argv[1]).write_text(str(i))
    else:
        comm.Recv(box, 0)
        comm.Send(box, 0)
"""


def python(code, *args):
    return [sys.executable, "-c", code, *map(str, args)]


def ours():
    return [name for name in _names() if name.startswith(f"pos{os.getpid()}x")]


def test_each_rank_has_a_host_of_its_own():
    with hosts(3) as made:
        done = made.run(python(WHO), env={"WORDS": "it's here"}, timeout_s=60)
        assert done.code == 0, done.stderr
        expected = [[i, name, str(i), "it's here"] for i, name in enumerate(made.hosts)]
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_ranks_of_one_host_share_it():
    with hosts(2) as made:
        done = made.run(python(WHO), ranks_per_host=2, timeout_s=60)
        assert done.code == 0, done.stderr
        first, second = made.hosts
    found = json.loads(done.stdout.splitlines()[-1])
    assert [name for _, name, _, _ in found] == [first, first, second, second]
    assert found[0][2] == found[1][2] != found[2][2]


def test_links_keep_their_rate_in_both_directions_at_once():
    mbps = 200
    # With "put" Open MPI asks for bulk data behind the bulk data it sends itself.
    env = {"OMPI_MCA_btl_tcp_flags": "1"}
    with hosts(2, mbps) as made:
        done = made.run(python(SPEED), env=env, timeout_s=100)
        assert done.code == 0, done.stderr
        sent_bytes = made.sent_bytes(0)
        received_bytes = made.received_bytes(0)
    one_way, both_ways = (
        rate / (mbps / 8 * 1e6 * PAYLOAD) for rate in json.loads(done.stdout)
    )
    # Slower on a busy machine; never faster, but for the bucket's depth.
    assert 0.8 < one_way < 1.05
    assert 0.7 < both_ways < 1.05
    # All of it went through the link: 5 + 5 times one way, 5 times the other.
    assert 1 < sent_bytes / (10 * (4 << 20)) < 1.15
    assert 1 < received_bytes / (5 * (4 << 20)) < 1.15


def test_a_cut_link_carries_nothing_until_it_is_restored(tmp_path):
    log = tmp_path / "count"

    def count():
        return int(log.read_text() or 0) if log.exists() else 0

    def passes(number, within_s):
        end = time.monotonic() + within_s
        while count() <= number and time.monotonic() < end:
            time.sleep(0.02)
        return count() > number

    with hosts(2) as made:
        process = made.start(python(COUNT, log))
        assert passes(10, within_s=30)
        made.cut(1)
        time.sleep(0.2)
        stood_at = count()
        time.sleep(0.5)
        assert count() == stood_at
        made.restore(1)
        assert passes(stood_at + 10, within_s=30)
        assert process.poll() is None
    assert process.poll() is not None


def test_a_failing_program_is_told_of():
    with hosts(2) as made:
        code = "import os, sys; print('no', file=sys.stderr); sys.exit(3)"
        done = made.run(python(code), timeout_s=60)
    assert done.code == 3
    assert "no\n" in done.stderr


def test_a_run_that_takes_too_long_is_ended():
    with hosts(2) as made:
        with pytest.raises(subprocess.TimeoutExpired):
            made.run(python("import time; time.sleep(60)"), timeout_s=3)
        end = time.monotonic() + 5
        while any(made.pids(i) for i in range(2)) and time.monotonic() < end:
            time.sleep(0.02)
        assert [made.pids(i) for i in range(2)] == [[], []]


def test_hosts_go_whatever_happens():
    seen = []

    def fail(made):
        with made:
            made.start(python("import time; time.sleep(60)"))
            seen.extend(ours())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(hosts(2))
    assert len(seen) == 3
    assert not ours()


def test_hosts_of_a_killed_run_are_removed_later():
    code = (
        "from benchmarks.cluster.namespaces import Namespaces\n"
        "with Namespaces(2) as hosts:\n"
        "    hosts.start(['sleep', '60'])\n"
        "    import time; time.sleep(1); print('there', flush=True); time.sleep(60)\n"
    )
    hosts(0)
    maker = subprocess.Popen(python(code), cwd=ROOT, stdout=subprocess.PIPE)
    assert maker.stdout.readline() == b"there\n"
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    removed = remove_leftovers()
    assert len([name for name in removed if f"pos{maker.pid}x" in name]) == 3
    assert not [name for name in _names() if f"pos{maker.pid}x" in name]
