"""The cluster's flags: spellings, what is refused and why, what the settings become."""

from __future__ import annotations

import re

import pytest

from poseidon_caffe.cli.cluster_flags import (
    CLUSTER_FLAGS,
    check_cluster_flags,
    check_size,
    check_solver,
    cluster_settings,
    given_cluster_flags,
)
from poseidon_caffe.cli.flags import Arguments, parse
from poseidon_caffe.cli.main import run
from poseidon_caffe.comm.settings import SORT_POLICIES, SVB_MODES, ClusterSettings
from poseidon_caffe.errors import UsageError
from poseidon_caffe.schema.messages import SolverParameter


def given(*argv: str) -> Arguments:
    return parse(argv, CLUSTER_FLAGS)


def refused(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        check_cluster_flags(given(*argv))
    return str(caught.value)


def test_the_defaults_are_those_of_the_cluster():
    assert cluster_settings(given()) == ClusterSettings()
    choices = {flag.name: flag.choices for flag in CLUSTER_FLAGS}
    assert sorted(choices["svb"]) == sorted(SVB_MODES)
    assert sorted(choices["update_sort_policy"]) == sorted(SORT_POLICIES)


def test_every_flag_arrives():
    args = given(
        "--servers=1",
        "--staleness=2",
        "--svb=off",
        "--overlap=off",
        "--bandwidth_mbps=500",
        "--update_sort_policy=FIFO",
        "--comm_timeout_s=6",
        "--row_kib=64",
        "--force_ssp",
        "--check_replicas=10",
        "--report_traffic",
    )
    assert cluster_settings(args) == ClusterSettings(
        servers=1,
        staleness=2,
        svb="off",
        overlap=False,
        bandwidth_mbps=500.0,
        update_sort_policy="FIFO",
        comm_timeout_s=6.0,
        stall_warning_s=2.0,
        row_bytes=65536,
        force_ssp=True,
        check_replicas_iters=10,
        report_traffic=True,
    )


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--svb"], "on"),
        (["--svb", "--staleness=0"], "on"),
        (["--nosvb"], "off"),
        (["--svb=true"], "on"),
        (["--svb=0"], "off"),
        (["--svb", "auto"], "auto"),
        (["-svb", "off"], "off"),
        (["--svb=on"], "on"),
        (["train", "--svb"], "on"),
        (["--svb", "word"], "on"),
    ],
)
def test_svb_is_a_choice_and_the_originals_boolean(argv, value):
    args = given(*argv)
    assert args.text("svb") == value
    assert args.words == tuple(x for x in argv if x in {"train", "word"})


def test_a_switch_says_what_it_takes():
    with pytest.raises(UsageError, match="--svb: expected one of auto, on, off"):
        given("--svb=maybe")
    assert given("--nooverlap").text("overlap") == "off"


def test_the_originals_names():
    args = given("--table_staleness", "3")
    assert args.integer("staleness") == 3
    assert given_cluster_flags(args) == ["staleness"]
    assert given_cluster_flags(given("--num_rows_per_table=1", "--hostfile=x")) == []


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--staleness=-1"], ["--staleness", "-1"]),
        (["--table_staleness=-2"], ["--staleness", "-2"]),
        (["--servers=-1"], ["--servers", "-1"]),
        (["--row_kib=-4"], ["--row_kib"]),
        (["--check_replicas=-4"], ["--check_replicas"]),
        (["--bandwidth_mbps=-1"], ["--bandwidth_mbps", "-1"]),
        (["--bandwidth_mbps=nan"], ["--bandwidth_mbps", "nan"]),
        (["--comm_timeout_s=0"], ["--comm_timeout_s", "0"]),
        (["--comm_timeout_s=inf"], ["--comm_timeout_s", "inf"]),
        (["--sync_batch_norm", "--staleness=1"], ["--sync_batch_norm", "--staleness"]),
        (["--svb", "--staleness=1"], ["--svb on", "--staleness 1", "auto"]),
    ],
)
def test_values_that_make_no_sense(argv, parts):
    said = refused(*argv)
    for part in parts:
        assert part in said


def test_factors_by_choice_go_with_staleness():
    check_cluster_flags(given("--staleness=1"))
    check_cluster_flags(given("--staleness=1", "--svb=off"))


@pytest.mark.parametrize(("servers", "ranks"), [(2, 2), (3, 2), (1, 1)])
def test_somebody_must_train(servers, ranks):
    with pytest.raises(UsageError, match=f"--servers {servers} of {ranks} ranks"):
        check_size(servers, ranks)


@pytest.mark.parametrize(("servers", "ranks"), [(0, 1), (1, 2), (3, 4)])
def test_servers_that_leave_a_worker(servers, ranks):
    check_size(servers, ranks)


def test_staleness_and_clipping_exclude_each_other():
    args = given("--staleness=2")
    with pytest.raises(UsageError, match="clip_gradients: 10: the norm") as caught:
        check_solver(args, SolverParameter(clip_gradients=10))
    assert "--staleness 2" in str(caught.value)
    check_solver(args, SolverParameter())
    check_solver(given(), SolverParameter(clip_gradients=10))


def test_help_has_them_in_a_group_of_their_own(capsys):
    assert run(["train", "--help"]) == 0
    text = capsys.readouterr().out
    group = text.partition("\nCluster (with mpirun):\n")[2].partition("\n\n")[0]
    shown = set(re.findall(r"^  --(?:no)?(\w+)", group, re.MULTILINE))
    assert shown == {flag.name for flag in CLUSTER_FLAGS if not flag.hidden}


def test_one_process_says_in_one_line_that_they_do_nothing(capsys):
    argv = ["train", "--staleness=1", "--nooverlap", "--solver=/no/such"]
    assert run(argv) == 1
    lines = capsys.readouterr().err.splitlines()
    (note,) = [line for line in lines if "no effect in one process" in line]
    assert "--staleness, --overlap: " in note
    assert run(["train", "--solver=/no/such"]) == 1
    assert "no effect" not in capsys.readouterr().err
