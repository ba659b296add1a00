from __future__ import annotations

import time

from poseidon_caffe import caffe


def test_measures_milliseconds():
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    time.sleep(0.02)
    timer.stop()
    first = timer.ms
    assert 15 < first < 5000
    time.sleep(0.01)
    assert timer.ms == first


def test_reading_stops_it():
    timer = caffe.Timer()
    timer.start()
    first = timer.ms
    assert first > 0
    assert timer.ms == first
