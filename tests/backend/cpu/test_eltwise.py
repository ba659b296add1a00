from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.dnnl import Alg
from poseidon_caffe.errors import BackendError


def test_each_primitive_is_made_once(ops):
    assert ops._eltwise(77, Alg.ELU, 0.5) is ops._eltwise(77, Alg.ELU, 0.5)
    assert ops._eltwise(77, Alg.ELU, 0.5) is not ops._eltwise(77, Alg.ELU, 0.25)
    back = ops._eltwise_backward(77, Alg.CLIP, -1, 1)
    assert back is ops._eltwise_backward(77, Alg.CLIP, -1, 1)


def test_backward_takes_the_input_or_the_output(ops):
    x = np.linspace(-2, 2, 9, dtype=np.float32)
    y, dx, dy = np.empty_like(x), np.empty_like(x), np.ones_like(x)
    ops._eltwise(9, Alg.EXP)(x, y)
    ops._eltwise_backward(9, Alg.EXP_DST)(y, dy, dx)
    np.testing.assert_allclose(dx, np.exp(x), rtol=1e-5)
    ops._eltwise_backward(9, Alg.EXP)(x, dy, dx)
    np.testing.assert_allclose(dx, np.exp(x), rtol=1e-5)


def test_what_the_library_lacks_is_an_error(ops):
    with pytest.raises(BackendError):
        ops._eltwise(9, Alg.ADD)
