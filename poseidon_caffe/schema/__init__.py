"""Caffe's files: prototxt, binary protobuf and HDF5, read and written.

This room knows files only: messages, text, wire bytes and upgrades of old
formats.  It knows nothing of layers or nets.
"""

from __future__ import annotations
