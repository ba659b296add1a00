"""Each rank takes part in the measurement of the link and says what it got."""

from __future__ import annotations

import time

from poseidon_caffe.comm.link import measure, measure_fit
from poseidon_caffe.comm.mpi import open_mpi
from poseidon_caffe.comm.settings import ClusterSettings

transport = open_mpi()
measure_fit(transport, 30)
start_s = time.perf_counter()
found = measure_fit(transport, 30)
took_s = time.perf_counter() - start_s
kind, sizes = measure(transport, transport.size, ClusterSettings())
assert not transport.finished()
print(
    f"{found.alpha_s!r} {found.beta_s_per_byte!r} {took_s:.3f} {kind.name} "
    f"{sizes.merge_bytes} {sizes.row_bytes}",
    flush=True,
)
transport.close()
