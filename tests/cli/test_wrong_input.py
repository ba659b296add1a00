"""Wrong input to the real program: one clear line, code 1, nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.program import FATAL, PROGRAM, Workspace, environment

HEAD = 'layer {\n  name: "loss"'


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one FATAL line's message, after checking how the program ended."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    found = [FATAL.match(line) for line in lines if line.startswith("F")]
    assert len(found) == 1, done.stderr
    assert found[0], done.stderr
    # Only an excerpt or findings may follow, indented.
    last = max(i for i, line in enumerate(lines) if line.startswith("F"))
    assert all(line.startswith("    ") for line in lines[last + 1 :])
    return found[0][1]


def check(space: Workspace, parts: list[str], *argv: str) -> str:
    """Train, expect an error with ``parts``, and no file that was not there."""
    before = space.files()
    done = space.train(*argv)
    message = told(done)
    for part in parts:
        assert part in message, message
    assert space.files() == before
    return done.stderr


@pytest.fixture
def model(trained):
    """A whole .caffemodel of the workspace's net."""
    return trained[0].folder / "out_iter_100.caffemodel"


def test_missing_solver(workspace):
    message = told(workspace.run("train", "--solver=solvr.prototxt"))
    assert "solvr.prototxt: no such" in message
    assert "did you mean solver.prototxt" in message


def test_missing_net(workspace):
    workspace.write(net='"none.prototxt"')
    check(workspace, ["none.prototxt: no such"])


def test_missing_weights_and_snapshot(workspace):
    check(workspace, ["none.caffemodel"], "--weights=none.caffemodel")
    check(workspace, ["none.solverstate"], "--snapshot=none.solverstate")


def test_misspelt_net_field(workspace):
    workspace.net = workspace.net.replace("num_output: 16", "num_outptu: 16")
    workspace.write()
    line = 1 + workspace.net[: workspace.net.index("num_outptu")].count("\n")
    stderr = check(
        workspace, [f"net.prototxt:{line}:25: ", "num_outptu", "mean 'num_output'"]
    )
    *_, excerpt, caret = stderr.splitlines()
    assert excerpt[caret.index("^") :].startswith("num_outptu: 16")


def test_misspelt_solver_field(workspace):
    workspace.write(base_rl="0.1")
    line = len(workspace.solver) + 1
    check(workspace, [f"solver.prototxt:{line}:1: ", "base_rl", "mean 'base_lr'"])


def test_a_file_that_is_no_prototxt(workspace, model):
    shutil.copy(model, workspace.folder / "net.prototxt")
    check(workspace, ["net.prototxt"])


def test_unknown_layer_type(workspace):
    workspace.net = workspace.net.replace('"InnerProduct"', '"InnerProdukt"', 1)
    workspace.write()
    check(
        workspace,
        ['"ip1"', '"InnerProdukt"', '"InnerProduct"', "Convolution", "SoftmaxWithLoss"],
    )


def test_shape_mismatch(workspace):
    extra = (
        'layer { name: "sum" type: "Eltwise" bottom: "ip2" bottom: "data" top: "s" }'
    )
    workspace.net = workspace.net.replace(HEAD, f"{extra}\n{HEAD}")
    workspace.write()
    check(workspace, ['"sum"', "(Eltwise)", "ip2", "(32, 10)", "(32, 1, 28, 28)"])


def test_unknown_bottom(workspace):
    workspace.net = workspace.net.replace(
        'bottom: "ip1" top: "ip2"', 'bottom: "x" top: "ip2"'
    )
    workspace.write()
    check(workspace, ['"ip2"', '"x"'])


@pytest.mark.parametrize("command", ["train", "test", "time"])
def test_weights_of_the_wrong_shape_all_at_once(workspace, model, command):
    workspace.net = workspace.net.replace("num_output: 16", "num_output: 17")
    workspace.write()
    which = "--solver=solver.prototxt" if command == "train" else "--model=net.prototxt"
    before = workspace.files()
    done = workspace.run(command, which, f"--weights={model}")
    text = told(done) + done.stderr
    for part in (
        "ip1",
        "(17, 784)",
        "(16, 784)",
        "(17,)",
        "ip2",
        "(10, 17)",
        "(10, 16)",
    ):
        assert part in text
    assert workspace.files() == before


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_weights(workspace, model, share):
    whole = model.read_bytes()
    cut = workspace.folder / "cut.caffemodel"
    cut.write_bytes(whole[: int(len(whole) * share)])
    check(workspace, ["cut.caffemodel"], "--weights=cut.caffemodel")


def test_truncated_snapshot(workspace, trained):
    for name in ("out_iter_50.caffemodel", "out_iter_50.solverstate"):
        whole = (trained[0].folder / name).read_bytes()
        cut = whole[: len(whole) // 2] if name.endswith("state") else whole
        (workspace.folder / name).write_bytes(cut)
    check(workspace, ["out_iter_50.solverstate"], "--snapshot=out_iter_50.solverstate")


@pytest.fixture
def own_lmdb(workspace, digits):
    """The workspace's net reads ``lmdb/`` in its folder, which is not there yet."""
    theirs = f"{digits}/digits_train_lmdb"
    workspace.net = workspace.net.replace(theirs, "lmdb")
    workspace.write()
    return workspace.folder / "lmdb"


def test_missing_lmdb(workspace, own_lmdb):
    check(workspace, ['"digits"', "lmdb"])
    assert not own_lmdb.exists()
    own_lmdb.mkdir()
    check(workspace, ['"digits"', "lmdb", "no data.mdb"])
    assert list(own_lmdb.iterdir()) == []


def test_empty_lmdb(workspace, own_lmdb):
    import lmdb

    lmdb.open(str(own_lmdb)).close()
    check(workspace, ['"digits"', "lmdb", "empty"])


def _cut(whole: bytes) -> bytes:
    return whole[: len(whole) // 3]


def _zeros(whole: bytes) -> bytes:
    return bytes(len(whole))


def _noise(whole: bytes) -> bytes:
    return bytes((i * 37 + 11) % 251 for i in range(len(whole)))


def _hole(whole: bytes) -> bytes:
    """The header and first records are fine, what follows is not."""
    middle = len(whole) // 2 // 4096 * 4096
    return whole[:middle] + b"\xff" * (4096 * 20) + whole[middle + 4096 * 20 :]


@pytest.mark.parametrize("damage", [_cut, _zeros, _noise, _hole])
def test_corrupt_lmdb(workspace, own_lmdb, digits, damage):
    own_lmdb.mkdir()
    whole = (digits / "digits_train_lmdb" / "data.mdb").read_bytes()
    (own_lmdb / "data.mdb").write_bytes(damage(whole))
    # Whether damage shows at the start or later, it is this one line.
    workspace.write(snapshot="", max_iter="200")
    check(workspace, ['"digits"', "lmdb"])


def test_nan_loss_names_the_first_blob(workspace):
    workspace.write(base_lr="1e30", snapshot="")
    check(workspace, ["iteration 1", "loss is nan", "ip", "base_lr"])


def test_a_snapshot_prefix_that_cannot_be_written(workspace):
    workspace.write(snapshot_prefix='"no/such/folder/out"')
    done = workspace.train()
    assert "no/such/folder" in told(done)
    # Said before any work is done.
    assert "Starting Optimization" not in done.stderr


def snapshot_files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def expect_old_snapshot(done, folder, before) -> None:
    """Training went on past failed snapshots and ended in good order."""
    assert "Iteration 80 (" in done.stderr
    warnings = [x for x in done.stderr.splitlines() if x.startswith("W")]
    assert any("snapshot at iteration 75 not written" in x for x in warnings)
    assert "iter_100" in told(done) or "space" in told(done) or "large" in told(done)
    assert snapshot_files(folder) == before


def test_disk_full_by_a_limit_on_file_sizes(workspace):
    out = workspace.folder / "out"
    out.mkdir()
    settings = {"snapshot_prefix": '"out/digits"', "snapshot": "25"}
    workspace.write(**settings, max_iter="50")
    assert workspace.train().returncode == 0
    before = snapshot_files(out)
    assert len(before) == 6
    workspace.write(**settings, max_iter="100")
    argv = (*PROGRAM, "train", "--solver=solver.prototxt", "--resume=auto")
    # 20 KiB: the weights need 51. Bash sets the limit, then becomes the program.
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 20 && exec "$@"', "-", *argv],
        cwd=workspace.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Resuming from out/digits_iter_50.solverstate" in done.stderr
    expect_old_snapshot(done, out, before)


@pytest.fixture
def small_disk(workspace):
    """A file system of 192 KiB at ``out/``: one snapshot fits, two do not."""
    out = workspace.folder / "out"
    out.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("needs root to mount a small file system")
    command = [mount, "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(out)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot mount here: {made.stderr.strip()}")
    yield out
    subprocess.run(["umount", str(out)], check=True)


def test_disk_full(workspace, small_disk):
    settings = {"snapshot_prefix": '"out/digits"', "snapshot": "75"}
    workspace.write(**settings, max_iter="50")
    assert workspace.train().returncode == 0
    before = snapshot_files(small_disk)
    assert set(before) >= {"digits_iter_50.caffemodel", "digits_iter_50.solverstate"}
    workspace.write(**settings, max_iter="100")
    done = workspace.train("--resume=auto")
    expect_old_snapshot(done, small_disk, before)
    # What is there can be taken up again once there is room.
    for path in small_disk.iterdir():
        shutil.copy(path, workspace.folder)
    workspace.write(max_iter="100", snapshot_prefix='"digits"')
    again = workspace.train("--snapshot=digits_iter_50.solverstate")
    assert again.returncode == 0, again.stderr


def test_a_package_that_is_missing_is_told_in_a_line():
    """Telling an error does not need NumPy."""
    code = (
        "import sys; sys.modules['numpy'] = None; "
        "from poseidon_caffe.cli.main import run; "
        "sys.exit(run(['train', '--solver=x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "numpy" in told(done)
