"""``caffe_pb2``: every message and enum of ``caffe.proto`` by its usual name.

The classes are those of the library's own schema (a private descriptor pool), so
a message made here can be handed to any part of Poseidon, and no other package
that ships a ``caffe_pb2`` gets in the way::

    from google.protobuf import text_format
    from poseidon_caffe.caffe.proto import caffe_pb2

    net = text_format.Merge(text, caffe_pb2.NetParameter())
    caffe_pb2.TRAIN, caffe_pb2.PoolingParameter.MAX
"""

from __future__ import annotations

from typing import Any

from poseidon_caffe.schema import messages as _messages

# No __all__: `from ...caffe_pb2 import *` shall bring every message.

TRAIN, TEST = _messages.TRAIN, _messages.TEST

DESCRIPTOR: Any = _messages.message_class("NetParameter").DESCRIPTOR.file
"""The descriptor of ``caffe.proto``."""

for _name in (*_messages.message_names(), *DESCRIPTOR.enum_types_by_name):
    globals()[_name] = getattr(_messages, _name)


def __getattr__(name: str) -> Any:
    """Say what is near a name that ``caffe.proto`` does not have."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_messages, name)
