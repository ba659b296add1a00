"""The smoothed loss."""

from __future__ import annotations

from poseidon_caffe.solver.window import LossWindow


def test_mean_of_the_last_ones():
    window = LossWindow(3)
    assert window.mean == 0
    for loss, mean in ((3, 3), (5, 4), (7, 5), (9, 7)):
        window.add(loss)
        assert window.mean == mean
    assert window.values() == [5, 7, 9]


def test_a_restored_window_goes_on_as_the_old_one():
    old, new = LossWindow(4), LossWindow(4)
    for i in range(6):
        old.add(0.1 * i)
    new.replace(old.values())
    old.add(7.7)
    new.add(7.7)
    assert new.mean == old.mean
    new.replace()
    assert new.values() == []


def test_a_smaller_window_keeps_the_newest():
    window = LossWindow(2)
    window.replace([1, 2, 3])
    assert window.values() == [2, 3]
