"""Ranks that meet again and again, as training ranks do; one of them fails.

fail_worker.py HOW RANK TIMEOUT_S: at its fifth meeting RANK fails in the way HOW.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from poseidon_caffe.comm.aborting import abort_unless_done
from poseidon_caffe.comm.board import Board
from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.mpi import open_mpi
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.watch import Watchman
from poseidon_caffe.errors import DataError

HOW, CULPRIT, TIMEOUT_S = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
LAYERS = ("data", "conv1", "loss")


def say(line: str) -> None:
    os.write(2, f"{line}\n".encode())


def damaged() -> None:
    raise DataError("record 7 is damaged")


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


WAYS = {
    "none": lambda: None,
    "raise": damaged,
    "exit": lambda: sys.exit(3),
    "_exit0": lambda: os._exit(0),
    "_exit1": lambda: os._exit(1),
    "segv": lambda: ctypes.string_at(0),
    "stop": lambda: kill(signal.SIGSTOP),
    "kill": lambda: kill(signal.SIGKILL),
    "term": lambda: kill(signal.SIGTERM),
    "hang": lambda: time.sleep(300),
    # Holds the interpreter's lock: no thread of this rank runs any more.
    "lock": lambda: ctypes.PyDLL(None).sleep(300),
    "nap": lambda: time.sleep(TIMEOUT_S * 0.6),
}

transport = open_mpi(close_timeout_s=5)
settings = ClusterSettings(comm_timeout_s=TIMEOUT_S, stall_warning_s=1.5)
courier = Courier(transport, settings)
watchman = Watchman(courier, settings, say)
watchman.name_layers(LAYERS)
before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGCONT)]
with abort_unless_done(transport, lambda line, trace: say(f"{line} (told)")):
    courier.start()
    with watchman:
        board = Board(courier, range(transport.size), 100)
        board.barrier(0)
        print(f"rank {transport.rank} is pid {os.getpid()}", flush=True)
        for iteration in range(20):
            for layer in range(3):
                watchman.beat(iteration, layer)
                time.sleep(0.005)
            if iteration == 5 and transport.rank == CULPRIT:
                watchman.beat(iteration, 0)
                say(f"failing now, {HOW}")
                WAYS[HOW]()
            board.barrier(1)
    assert before == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGCONT)]
    assert signal.set_wakeup_fd(-1) == -1
    courier.close()
    transport.close()
print("done", flush=True)
