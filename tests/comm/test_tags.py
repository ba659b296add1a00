"""No two messages have one tag."""

from __future__ import annotations

import itertools

from poseidon_caffe.comm import tags
from poseidon_caffe.comm.cluster import _END, _WORKERS_BOARD_TAG
from poseidon_caffe.comm.courier import FIRST_DATA_TAG
from poseidon_caffe.comm.heartbeat import HEARTBEAT_TAG


def test_control_stays_below_data():
    control = [HEARTBEAT_TAG, tags.REQUESTS, tags.AGREED, tags.NORM_ROWS]
    control += [tags.NORM_FACTORS, tags.HISTORY_WANTED]
    assert len(set(control)) == len(control)
    assert max(control) < tags.FIRST_BOARD_TAG
    assert tags.FIRST_BOARD_TAG + 2 * _END + 1 < _WORKERS_BOARD_TAG < FIRST_DATA_TAG


def test_data_tags_do_not_meet_in_the_largest_net():
    """Rows of 1 MB of a model of 400 GB, a thousand slots."""
    rows, slots = 400_000, 1000
    families = [
        range(tags.gradient_tag(0), tags.values_tag(rows) + 1),
        range(tags.factors_tag(0, 0), tags.factors_tag(slots, 1) + 1),
        range(tags.history_tag(0), tags.history_tag(rows) + 1),
        range(tags.CHUNK, tags.CHUNK + 1),
    ]
    for before, after in itertools.pairwise(families):
        assert before.stop <= after.start
    assert families[0].start >= FIRST_DATA_TAG


def test_a_rows_and_a_slots_tags_differ():
    rows = [tag(k) for k in range(50) for tag in (tags.gradient_tag, tags.values_tag)]
    assert len(set(rows)) == 100
    assert len({tags.factors_tag(k, part) for k in range(50) for part in (0, 1)}) == 100
