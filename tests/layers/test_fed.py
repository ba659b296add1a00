"""The base of layers that read records; its types' tests show the rest."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import DataError, LayerError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.fed import RESTARTING, FedLayer, Opened
from poseidon_caffe.schema.messages import LayerParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Shard


class Numbers:
    """Records 0 to 4 of shape (1, 1, 1), each its own number."""

    closed = False

    def __len__(self):
        return 5

    def fill(self, records, batch):
        batch.shape_data((1, 1, 1))
        for place, record in enumerate(records):
            if record == 8:
                raise DataError("record 8 is damaged")
            batch.data[place] = batch.label[place] = record

    def close(self):
        self.closed = True


class Counting(FedLayer):
    num_top = 2
    size = 2

    def open_source(self):
        self.source = Numbers()
        self.say("opened")
        return Opened(self.source, (1, 1, 1), self.size, self.drawn_skip(1), 2)


class Timeless(Counting):
    has_epochs = False


@pytest.fixture
def build():
    made = []

    def make(cls=Counting, text="", **context):
        param = parse_prototxt(f'name: "n" {text}', LayerParameter)
        layer = cls(param, LayerContext(ReferenceOps(), **context))
        made.append(layer)
        top = [Blob(), Blob()]
        layer.setup([], top)
        return layer, top

    yield make
    for layer in made:
        layer.close()


def labels(layer, top, count):
    found = []
    for _ in range(count):
        layer.forward([], top)
        np.testing.assert_array_equal(top[0].data.ravel(), top[1].data)
        found.append(top[1].data.tolist())
    return found


def test_lines_of_setup_wait_for_the_log(build):
    layer, top = build()
    assert layer.note is None
    notes = []
    layer.note = notes.append
    assert notes == ["opened"]
    labels(layer, top, 3)
    layer.say("more")
    assert notes == ["opened", RESTARTING, "more"]
    other = []
    layer.note = other.append
    assert other == []


def test_without_epochs_nothing_restarts(build):
    layer, top = build(Timeless)
    notes = []
    layer.note = notes.append
    assert labels(layer, top, 4)[-1] == [6, 7]
    assert notes == ["opened"]


def test_every_type_takes_the_prefetch_of_data_param(build):
    settings = build(text="data_param { prefetch: 7 }")[0]._feed.settings
    assert (settings.prefetch, settings.threads) == (7, 2)
    assert build()[0]._feed.settings.prefetch == 3
    assert build(prefetch=False)[0]._feed.settings.prefetch == 0


def test_errors_name_the_layer(build):
    class Closed(Counting):
        type = "Closed"

        def open_source(self):
            raise LayerError(self.own_name("", "x_param"))

    with pytest.raises(
        LayerError, match=r'layer "n" \(Closed\): x_param has no source'
    ):
        build(Closed)
    layer, top = build()
    labels(layer, top, 4)
    with pytest.raises(DataError, match=r'layer "n" \(\): record 8 is damaged'):
        layer.forward([], top)


def test_state_shards_and_closing(build):
    first, top = build(shard=Shard(1, 2))
    assert labels(first, top, 2) == [[1, 3], [5, 7]]
    assert first.record_count == 5
    second, top = build()
    second.restore_state({**first.state(), "next_record": 2})
    assert labels(second, top, 1) == [[2, 3]]
    third, top = build(shard=Shard(0, 2, by_batch=True))
    third.skip_batch()
    assert labels(third, top, 1) == [[2, 3]]
    third.close()
    assert third.source.closed
