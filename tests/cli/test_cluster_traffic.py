"""``--report_traffic`` of real runs, beside the closed formulas."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.program import Workspace
from tests.comm.launch import mpirun

pytestmark = pytest.mark.mpi

RANKS = Path(__file__).parent / "ranks.py"
ITERATIONS = 12
LINE = re.compile(r"\] {3}(\S*) +(rows|factors|control)? +([\d.]+) +([\d.]+) +")
SUM = re.compile(r"Rank (\d+) sent ([\d.]+) MB, received ([\d.]+) MB")


def reported(
    workspace: Workspace, n: int, *argv: str
) -> tuple[dict[tuple[str, str], tuple[float, float]], list[tuple[float, float]]]:
    """{(layer, kind): (sent, by formula)} in MB, and each rank's (sent, received)."""
    # Large enough that heartbeats do not count beside it.
    workspace.net = workspace.net.replace("num_output: 16", "num_output: 512")
    workspace.write(max_iter=str(ITERATIONS), test_interval="100")
    done = mpirun(
        n, RANKS, "--report_traffic", *argv, cwd=workspace.folder, timeout_s=120
    )
    assert done.rc == 0, done.said
    table = {
        (match[1], match[2] or ""): (float(match[3]), float(match[4]))
        for match in LINE.finditer(done.stderr)
    }
    sums = [(float(m[2]), float(m[3])) for m in SUM.finditer(done.stderr)]
    assert len(sums) == n, done.said
    return table, sums


@pytest.mark.parametrize(
    ("n", "svb"),
    [
        (2, "off"),
        (3, "on"),
        pytest.param(4, "off", marks=pytest.mark.slow),
        pytest.param(4, "on", marks=pytest.mark.slow),
        pytest.param(8, "off", marks=pytest.mark.slow),
        pytest.param(8, "on", marks=pytest.mark.slow),
    ],
)
def test_bytes_are_those_of_the_formulas(
    workspace: Workspace, n: int, svb: str
) -> None:
    """Rows 2 values (P-1)/P, factors K (P-1) (M + N), each node and iteration."""
    table, sums = reported(workspace, n, "--svb", svb)
    counted, formula = table["total", ""]
    assert counted == pytest.approx(formula, rel=0.03)
    for sent, received in sums:
        assert sent == pytest.approx(formula, rel=0.03)
        assert received == pytest.approx(formula, rel=0.03)
    kinds = {kind for _, kind in table} - {"", "control"}
    assert kinds == ({"rows"} if svb == "off" else {"factors"})
    by_layer = [flow for (_, kind), flow in table.items() if kind != "control"]
    for sent, by_formula in by_layer:
        # Three digits after the point are shown.
        assert sent == pytest.approx(by_formula, rel=0.03, abs=0.002)
