"""Each rank runs the transport's contract on MPI and says how every case went."""

from __future__ import annotations

import traceback

from poseidon_caffe.comm.mpi import open_mpi
from tests.comm.contract import CASES

transport = open_mpi()
for case in CASES:
    try:
        case(transport)
    except BaseException:  # noqa: BLE001
        print(f"rank {transport.rank} {case.__name__}:\n{traceback.format_exc()}")
        transport.abort(1)
    print(f"rank {transport.rank} {case.__name__} ok", flush=True)
transport.close()
print(f"rank {transport.rank} closed", flush=True)
