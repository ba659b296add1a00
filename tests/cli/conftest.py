"""The digits' LMDBs, made once, and a fresh workspace for each test."""

from __future__ import annotations

import pytest

from poseidon_caffe.data.digits import build_digits
from tests.cli.program import Workspace


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Folder with digits_train_lmdb and digits_test_lmdb."""
    folder = tmp_path_factory.mktemp("digits")
    build_digits(folder)
    return folder


@pytest.fixture
def workspace(tmp_path, digits):
    """A net and a solver of its own."""
    return Workspace(tmp_path, digits)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, digits):
    """A workspace whose training has ended, and what it logged."""
    space = Workspace(tmp_path_factory.mktemp("trained"), digits)
    done = space.train()
    assert done.returncode == 0, done.stderr
    return space, done
