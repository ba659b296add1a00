from __future__ import annotations

from poseidon_caffe.data.notes import Notes, Silent


def test_silence(capsys):
    notes: Notes = Silent()
    for say in (notes.info, notes.warning, notes.error):
        say("something")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
