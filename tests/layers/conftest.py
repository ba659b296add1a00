"""The fast backend, made once."""

from __future__ import annotations

import pytest

from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.select import get_ops


@pytest.fixture(scope="session")
def cpu() -> Ops:
    """The oneDNN backend; skips where only NumPy is there."""
    ops = get_ops("cpu")
    if ops.name != "cpu":
        pytest.skip("no oneDNN here")
    return ops
