"""Stands in for ``caffe`` until it has put the real modules in its place."""

from __future__ import annotations

import sys

from poseidon_caffe.caffe.alias import install

if __name__ == "caffe":
    del sys.modules[__name__]  # the import then finds what `install` enters
install()
