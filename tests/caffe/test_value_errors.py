from __future__ import annotations

import pytest

from poseidon_caffe.caffe import value_errors
from poseidon_caffe.errors import PoseidonError


@pytest.mark.parametrize("name", value_errors.__all__)
def test_each_is_ours_and_pythons_own(name):
    error = getattr(value_errors, name)("what is wrong")
    assert isinstance(error, PoseidonError)
    assert isinstance(error, (ValueError, OSError, AssertionError))
    assert str(error) == "what is wrong"
