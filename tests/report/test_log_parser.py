"""Tables of logs: Caffe's own, our own, restarted, cut off, over New Year."""

from __future__ import annotations

import csv
import io
import math

import pytest

from poseidon_caffe.errors import ParseError, SnapshotError, UsageError
from poseidon_caffe.report.log_parser import parse_log, parse_log_text, write_tables


def line(text, clock="00:00:01.000000", day="1231", tag="solver.cpp:1"):
    """One log line."""
    return f"I{day} {clock} 77 {tag}] {text}\n"


def display(iteration, loss, **when):
    """What a training logs when it displays, with an output of that value."""
    return (
        line(f"Iteration {iteration} (9 iter/s, 1s/1 iters), loss = {loss}", **when)
        + line(f"    Train net output #0: loss = {loss} (* 1 = {loss} loss)", **when)
        + line(f"Iteration {iteration}, lr = {0.1 / (iteration + 1):g}", **when)
    )


def a_test(iteration, accuracy, loss, **when):
    """What a test logs."""
    return (
        line(f"Iteration {iteration}, Testing net (#0)", **when)
        + line(f"    Test net output #0: accuracy = {accuracy}", **when)
        + line(f"    Test net output #1: loss = {loss} (* 1 = {loss} loss)", **when)
    )


SOLVING = line("Solving net")


def tables(tmp_path, name):
    """The two files as texts."""
    return [
        (tmp_path / f"{name}.{kind}").read_bytes().decode()
        for kind in ("train", "test")
    ]


def test_caffes_own_log(golden, tmp_path):
    path = golden / "train" / "lenet_reference.log"
    said = write_tables(parse_log(path), path, tmp_path)
    assert [each.split()[0] for each in said] == ["Wrote", "Wrote"]
    train, test = tables(tmp_path, path.name)
    assert train.startswith(
        "NumIters,Seconds,LearningRate,loss\r\n"
        "0.0,0.2352,0.01,2.30076\r\n"
        "20.0,0.645181,0.01,1.68693\r\n"
        "40.0,1.038832,0.00998503,0.756978\r\n"
    )
    assert test.startswith(
        "NumIters,Seconds,LearningRate,accuracy,loss\r\n"
        "0.0,0.201587,0.00994042,0.112,2.35195\r\n"
        "100.0,2.376995,0.00994042,0.86,0.473786\r\n"
    )
    # 25 displays from 0 to 480, and six tests; the last loss has no display.
    assert len(train.splitlines()) == 26
    assert test.splitlines()[-1] == "500.0,18.084577,0.00965448,0.977,0.0676374"


def test_smoothed_losses_and_rates_for_plots(golden):
    log = parse_log(golden / "train" / "lenet_reference.log")
    assert log.losses[0].value == 2.30076
    assert log.losses[-1].iteration == 500
    assert [p.value for p in log.rates[:2]] == [0.01, 0.00998503]


def test_first_row_gets_the_rate_told_after_it():
    log = parse_log_text(SOLVING + display(0, 2) + display(1, 1) + display(2, 1))
    assert [row.learning_rate for row in log.train] == [0.1, 0.1, 0.05]


def test_several_outputs_of_a_name_are_one_column():
    # After the first row each is a row of its own, as in the original.
    text = SOLVING
    for iteration in (0, 1):
        text += line(f"Iteration {iteration}, loss = 1")
        text += "".join(line(f"Train net output #{i}: p = {i}") for i in range(3))
    rows = parse_log_text(text).train
    assert [row.outputs for row in rows] == [{"p": value} for value in (2, 0, 1, 2)]


def test_interrupted_log_drops_the_row_that_lacks_outputs():
    whole = SOLVING + a_test(0, 0.1, 2) + a_test(1, 0.2, 1) + a_test(2, 0.3, 1)
    cut = whole[: whole.rindex("Test net output #1")]
    assert [row.iteration for row in parse_log_text(cut).test] == [0, 1]
    # In the middle of a number's line, too.
    cut = whole[: whole.rindex(" = 1 (*") + 3]
    assert [row.iteration for row in parse_log_text(cut).test] == [0, 1]


def test_only_one_row_is_a_table():
    log = parse_log_text(SOLVING + a_test(0, 0.1, 2) + display(0, 2))
    assert [row.outputs for row in log.test] == [{"accuracy": 0.1, "loss": 2}]
    assert log.test[0].learning_rate == 0.1


def test_restarts_count_seconds_from_the_first_start():
    first = SOLVING + display(0, 2) + display(5, 1)
    second = line("Solving net", clock="00:01:01.000000") + "".join(
        display(i, 1, clock="00:01:11.000000") for i in (3, 6)
    )
    log = parse_log_text(first + "make: *** Killed\n" + second)
    assert [row.iteration for row in log.train] == [0, 5, 3, 6]
    assert [row.seconds for row in log.train] == [0, 0, 70, 70]


def test_new_year():
    text = (
        SOLVING + display(0, 2) + display(1, 2, day="0101") + display(2, 2, day="0102")
    )
    seconds = [row.seconds for row in parse_log_text(text).train]
    assert seconds == [0, 86400, 2 * 86400]


def test_leap_day_of_a_log_without_a_year():
    start = line("Solving net", day="0228")
    text = start + display(0, 1, day="0229") + display(1, 1, day="0301")
    rows = parse_log_text(text, year=2023).train
    assert [row.seconds for row in rows] == [86400, 2 * 86400]


def test_nan_is_kept_and_a_new_column_goes_last(tmp_path):
    text = SOLVING + display(0, "nan") + display(1, 1)
    text += line("Iteration 2, loss = 1") + line("Train net output #1: extra = 5")
    text += line("Iteration 3, loss = 1") + line("Train net output #0: loss = 7")
    log = parse_log_text(text)
    assert math.isnan(log.train[0].outputs["loss"])
    write_tables(log, "x.log", tmp_path)
    rows = list(csv.reader(io.StringIO((tmp_path / "x.log.train").read_text())))
    assert rows[0][3:] == ["loss", "extra"]
    assert [row[3:] for row in rows[1:]] == [
        ["nan", ""],
        ["1.0", ""],
        ["", "5.0"],
        ["7.0", ""],
    ]
    assert not (tmp_path / "x.log.test").exists()


def test_delimiter(tmp_path):
    log = parse_log_text(SOLVING + display(0, 2) + display(1, 1))
    write_tables(log, "x", tmp_path, ";")
    assert (tmp_path / "x.train").read_text().startswith("NumIters;Seconds;")
    for wrong in ("", ", ", "\n", '"'):
        with pytest.raises(UsageError, match="one character"):
            write_tables(log, "x", tmp_path, wrong)


def test_folder_must_exist(tmp_path):
    log = parse_log_text(SOLVING + display(0, 2))
    with pytest.raises(SnapshotError, match="make the folder"):
        write_tables(log, "x", tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no start time"),
        (display(0, 1), "no start time"),
        ("Solving, says a line without a time\n" + display(0, 1), "no start time"),
        (SOLVING, "no iteration"),
        (display(0, 1) + SOLVING, "no iteration"),
    ],
)
def test_what_is_no_training_log(tmp_path, text, said):
    path = tmp_path / "some.log"
    path.write_text(text)
    with pytest.raises(ParseError, match=rf"some\.log: {said}"):
        parse_log(path)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(ParseError, match="no such training log"):
        parse_log(tmp_path / "none.log")
    path = tmp_path / "a.caffemodel"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ParseError, match="no text"):
        parse_log(path)


def test_bytes_that_are_no_utf_8_do_no_harm(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"\xff\xfe caf\xe9\n" + (SOLVING + display(0, 2)).encode())
    assert len(parse_log(path).train) == 1
