"""``caffe.proto``: the message classes, as pycaffe names them."""

from __future__ import annotations
