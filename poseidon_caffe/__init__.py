"""Poseidon: Caffe-compatible deep-learning training in Python.

``from poseidon_caffe import caffe`` takes the place of ``import caffe``; the
``poseidon`` command takes the place of ``caffe``.  Importing this package
loads nothing else.
"""

__version__ = "0.4.0"
