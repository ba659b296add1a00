from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.cpu import CpuOps


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_number(ops, slow, threads):
    """Whatever thread draws a piece, its generator is its own."""
    out, want = np.empty((2, 30, 17, 321), np.float32)
    other = CpuOps(threads)
    other.normal(np.random.default_rng(5), 1.0, 2.0, out)
    slow.normal(np.random.default_rng(5), 1.0, 2.0, want)
    np.testing.assert_array_equal(out, want)
    ops.dnnl.set_threads(2)
