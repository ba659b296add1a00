"""Rank 1 of three breaks in the way named; the others would wait for it for ever."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np

from poseidon_caffe.comm.aborting import abort_unless_done, install_hooks
from poseidon_caffe.comm.mpi import open_mpi
from poseidon_caffe.errors import DataError
from tests.comm.contract import Hand


def tell(line: str, trace: str) -> None:
    print(f"{line}\n{trace}", file=sys.stderr, flush=True)


def break_down() -> None:
    raise DataError("record 7 of digits_train_lmdb is damaged")


def in_a_thread(function) -> None:
    threading.Thread(target=function, name="reader").start()
    time.sleep(300)


def outside() -> None:
    """Raise where only the hook sees it."""


transport = open_mpi(close_timeout_s=3)
WAYS = {
    "raise": break_down,
    "thread": lambda: in_a_thread(break_down),
    "exit": lambda: sys.exit(0),
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt),
    "outside": outside,
    "_exit": lambda: os._exit(5),
    "return": transport.close,
}

restore = install_hooks(transport, tell)
hand = Hand(transport, timeout_s=300)
hand.barrier()
print("running", flush=True)
with abort_unless_done(transport, tell):
    if transport.rank == 1:
        WAYS[sys.argv[1]]()
    else:
        hand.wait(hand.receive(1, 5, np.empty(1)))
break_down()
