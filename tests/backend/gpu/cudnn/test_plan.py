from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.cudnn.layout import Layout, layouts_of
from poseidon_caffe.backend.gpu.cudnn.plan import Direction, Request, supports
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings

G = ConvGeometry((2, 4, 7, 6), 4, (3, 3), (2, 1), (1, 0), (1, 2))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"x_shape": (0, 4, 7, 6)}, False),
        ({"x_shape": (2, 4, 7, 6), "group": 4}, True),
        # Caffe gives windows here where cuDNN has none.
        ({"x_shape": (2, 4, 7, 4), "stride": (2, 2)}, False),
        ({"x_shape": (1 << 20, 4, 70, 60)}, False),
        (
            {"x_shape": (2, 4), "kernel": (), "stride": (), "pad": (), "dilation": ()},
            False,
        ),
    ],
)
def test_supports(changes, expected):
    assert supports(dataclasses.replace(G, **changes)) is expected


def request(**changes):
    def dense(shape):
        array = np.zeros(shape, np.float32)
        return layouts_of(array.shape, array.strides, 4)[0]

    base = Request(
        Direction.FORWARD, G, np.dtype(np.float32), dense(G.x_shape), dense(G.y_shape)
    )
    return dataclasses.replace(base, **changes)


def test_keys_tell_apart_whatever_matters():
    plain = CudnnSettings()
    gaps = Layout((2, 4, 7, 6), (500, 42, 6, 1), channels_last=False)
    last = Layout((2, 4, 7, 6), (168, 1, 24, 4), channels_last=True)
    keys = {
        request().key(plain, "legacy"),
        request().key(plain, "graph"),
        request().key(plain, "graph", "fused 0.0"),
        request().key(CudnnSettings(tf32=True), "legacy"),
        request().key(CudnnSettings(deterministic=True), "legacy"),
        request(direction=Direction.DATA).key(plain, "legacy"),
        request(dtype=np.dtype(np.float16)).key(plain, "legacy"),
        request(x=gaps).key(plain, "legacy"),
        request(x=last).key(plain, "legacy"),
        request(alignment=4).key(plain, "legacy"),
        request(geometry=dataclasses.replace(G, group=2)).key(plain, "legacy"),
        request(geometry=dataclasses.replace(G, dilation=(2, 2))).key(plain, "legacy"),
    }
    assert len(keys) == 12
    assert request().key(plain, "legacy") == (
        "legacy forward fp32 2x4x7x6 4x4x3x3 2x1 1x0 1x2 g1 nchw"
    )
