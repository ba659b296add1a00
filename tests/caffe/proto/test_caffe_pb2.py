from __future__ import annotations

import pytest
from google.protobuf import text_format

from poseidon_caffe import caffe
from poseidon_caffe.caffe.proto import caffe_pb2


def test_messages_work_with_text_format():
    net = text_format.Merge(
        'name: "n" layer { name: "p" type: "Pooling" pooling_param { pool: AVE } }',
        caffe_pb2.NetParameter(),
    )
    assert net.layer[0].pooling_param.pool == caffe_pb2.PoolingParameter.AVE
    assert text_format.MessageToString(net).startswith('name: "n"')


def test_enums_at_both_levels():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1) == (caffe.TRAIN, caffe.TEST)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.PoolingParameter.MAX == 0
    assert caffe_pb2.PoolingParameter.PoolMethod.Value("STOCHASTIC") == 2
    assert caffe_pb2.SolverParameter.GPU == 1


def test_binary_round_trip():
    datum = caffe_pb2.Datum(channels=1, height=2, width=2, data=b"abcd", label=3)
    again = caffe_pb2.Datum.FromString(datum.SerializeToString())
    assert again == datum


def test_star_import_brings_the_messages():
    scope: dict = {}
    exec("from poseidon_caffe.caffe.proto.caffe_pb2 import *", scope)
    assert scope["LayerParameter"] is caffe_pb2.LayerParameter
    assert scope["TRAIN"] == 0


def test_an_unknown_message_gets_a_hint():
    with pytest.raises(AttributeError, match="LayerParameter"):
        _ = caffe_pb2.LayerParametr


def test_beside_another_package_with_a_caffe_proto():
    """A generated module may register "caffe.proto" in protobuf's default pool."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.Default()
    other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
    other.message_type.add(name="NetParameter")
    pool.AddSerializedFile(other.SerializeToString())
    theirs = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("caffe.NetParameter")
    )
    assert theirs is not caffe_pb2.NetParameter
    assert caffe_pb2.NetParameter(name="ours").name == "ours"
