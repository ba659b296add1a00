from __future__ import annotations

import math

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from poseidon_caffe.schema import messages
from poseidon_caffe.schema.printer import float_text, to_prototxt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), "0.1"),
        (np.float32(1e-5), "1e-05"),
        (np.float32(1 / 256), "0.00390625"),
        (np.float32(1 / 3), "0.33333334"),
        (3.0, "3"),
        (-0.0, "-0"),
        (1e10, "1e+10"),
        (np.finfo(np.float32).max, "3.4028235e+38"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
    ],
)
def test_floats(value, text):
    assert float_text(float(value)) == text


def test_doubles():
    assert float_text(0.1, double=True) == "0.1"
    assert float_text(1 / 3, double=True) == "0.3333333333333333"


@given(st.floats(width=32, allow_nan=False))
def test_every_float_comes_back(value):
    blob = messages.BlobProto(data=[value], double_data=[value / 3])
    again = messages.BlobProto()
    text_format.Parse(to_prototxt(blob), again)
    assert again == blob


def test_every_kind_of_field():
    net = messages.NetParameter(name="n", force_backward=True)
    layer = net.layer.add(type="Pooling", bottom=["a", "b"], phase=messages.TEST)
    layer.pooling_param.pool = messages.PoolingParameter.AVE
    layer.param.add()
    assert to_prototxt(net) == (
        'name: "n"\nforce_backward: true\nlayer {\n  type: "Pooling"\n  bottom: "a"\n'
        '  bottom: "b"\n  param {\n  }\n  phase: TEST\n  pooling_param {\n'
        "    pool: AVE\n  }\n}\n"
    )
    datum = messages.Datum(data=b"\x00\xff\"a'", label=-3)
    assert to_prototxt(datum) == 'data: "\\000\\377\\"a\\\'"\nlabel: -3\n'
