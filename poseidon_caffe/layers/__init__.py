"""Caffe's layer types: one short file each, found by `registry`."""
