from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.window_file import read_windows
from poseidon_caffe.errors import ParseError

TEXT = """# 0
a.jpg
3
40
50
3
2 0.5 1 2 3 4
9 0.4999 5 6 7 8
8 0.1 9 10 11 12

# 1
dir/b.jpg
3
41
51
0
# 2
c.jpg 3 42 52 1
1 1.0 -3 0 60 7
"""


def read(folder, text, fg=0.5, bg=0.3):
    path = folder / "w.txt"
    path.write_text(text)
    return read_windows(str(path), fg, bg)


def test_windows_are_sorted_by_their_overlap(tmp_path):
    found = read(tmp_path, TEXT)
    assert found.images == ["a.jpg", "dir/b.jpg", "c.jpg"]
    assert found.channels == 3
    assert found.foreground.dtype == np.int32
    assert found.foreground.tolist() == [[0, 2, 1, 2, 3, 4], [2, 1, -3, 0, 60, 7]]
    # The class of the background is 0, whatever the file says.
    assert found.background.tolist() == [[0, 0, 9, 10, 11, 12]]
    assert found.histogram() == [(0, 1), (1, 1), (2, 1)]


def test_thresholds_are_compared_in_single_precision(tmp_path):
    text = "# 0\na\n3\n4\n5\n2\n1 0.7 0 0 1 1\n1 0.3 0 0 1 1\n"
    # As a message gives them: the float32 next to 0.7 is below it.
    found = read(tmp_path, text, float(np.float32(0.7)), float(np.float32(0.3)))
    assert len(found.foreground) == 1
    assert len(found.background) == 0


def test_any_blanks_separate(tmp_path):
    plain = read(tmp_path, TEXT)
    joined = read(tmp_path, TEXT.replace("\n", " \t ").replace("8 0.1", "8\r\n\n0.1"))
    np.testing.assert_array_equal(plain.foreground, joined.foreground)
    np.testing.assert_array_equal(plain.background, joined.background)
    assert joined.images == plain.images


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# 1", "# 2", r":11: image number 2, expected 1"),
        ("# 1", "1", r':11: expected "# 1", the next image, received "1"'),
        ("# 1", "# x", r''':11: expected the image's number, received "x"'''),
        ("\n3\n41", "\nthree\n41", r''':13: .*channels, received "three"'''),
        ("\n0\n# 2", "\n-1\n# 2", r":16: -1 windows"),
        ("50\n3\n", "50\n2\n", r':9: expected "# 1", the next image, received "8"'),
        ("9 0.4999", "9 nan", r":8: expected an integer, received nan"),
        ("5 6 7 8", "5 6 7.5 8", r":8: expected an integer, received 7\.5"),
        ("5 6 7 8", "5 6 ? 8", r''':8: expected 3 windows .*received "\?"'''),
        ("2 0.5", "0 0.5", r":7: a window of overlap 0\.5, at least fg_threshold"),
        (" 60 7\n", " 60", r":19: the file ends where 1 windows"),
        ("\n1 1.0", "\n-1 1.0", r":19: .*has class -1"),
    ],
)
def test_mistakes_name_their_line(old, new, message, tmp_path):
    assert old in TEXT
    with pytest.raises(ParseError, match=r"w\.txt" + message):
        read(tmp_path, TEXT.replace(old, new, 1))


def test_an_empty_file(tmp_path):
    with pytest.raises(ParseError, match="the window file is empty"):
        read(tmp_path, "\n")


def test_a_missing_file(tmp_path):
    with pytest.raises(ParseError, match=r"no\.txt: the window file cannot be read"):
        read_windows(str(tmp_path / "no.txt"), 0.5, 0.5)
