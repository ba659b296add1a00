"""Hosts made of network namespaces, for tests marked ``netns``."""

from __future__ import annotations

import functools

import pytest

from benchmarks.cluster import namespaces

__all__ = ["hosts"]


@functools.cache
def _why_not():
    return namespaces.why_not()


def hosts(count, mbps=1000):
    """Hosts for a ``with`` block; skips the test where there can be none, says why."""
    if reason := _why_not():
        pytest.skip(reason)
    return namespaces.Namespaces(count, mbps)
