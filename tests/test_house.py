"""The house's own rules: sizes, light imports, the build step, the programs around."""

from __future__ import annotations

import ast
import configparser
import os
import re
import runpy
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import poseidon_caffe

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "poseidon_caffe"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FILE_LINES_MAX = 400
FILE_LINES_MEDIAN = 120
FUNCTION_LINES_P95 = 40
HEAVY = ("h5py", "cupy", "mpi4py", "matplotlib", "PIL", "lmdb", "plyvel")


def _function_lines(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        node.end_lineno - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    ]


def _python(*args, **options):
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        **options,
    ).stdout


@pytest.fixture
def setup_module():
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup_for_tests")


def test_files_are_short():
    lines = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    long = {str(p): n for p, n in lines.items() if n > FILE_LINES_MAX}
    assert not long
    assert statistics.median(n for n in lines.values() if n > 1) <= FILE_LINES_MEDIAN


def test_functions_are_short():
    lengths = sorted(n for path in SOURCES for n in _function_lines(path))
    assert lengths[int(0.95 * len(lengths))] <= FUNCTION_LINES_P95


def test_the_gpu_backend_has_a_test_for_every_file():
    """Beside its own, tests of all kits are a file's: those of its CPU twin."""
    tests = ROOT / "tests" / "backend"
    for path in sorted((PACKAGE / "backend" / "gpu").glob("*.py")):
        mirrors = [
            tests / kit / f"test_{path.name}" for kit in ("gpu", "reference", "cpu")
        ]
        named = path.name == "__init__.py" or any(m.exists() for m in mirrors)
        assert named, f"no test of {path}"


def test_pointers_are_written_in_one_way():
    """``float* x``, in CUDA sources."""
    for path in (PACKAGE / "backend" / "gpu" / "kernels").glob("*.cu*"):
        code = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        found = re.search(r"[\w>] [*&][A-Za-z_].*", code)
        assert found is None, f"{path}: {found and found[0]}"


def test_every_folder_is_a_package():
    folders = {path.parent for path in SOURCES}
    assert not [str(f) for f in folders if not (f / "__init__.py").exists()]


def test_version_is_that_of_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{poseidon_caffe.__version__}]" in changelog


def test_importing_the_package_loads_nothing_else():
    code = "import sys, poseidon_caffe; print(*sys.modules)"
    loaded = set(_python("-c", code).split())
    assert not loaded & {"numpy", "google.protobuf", *HEAVY}


def test_pycaffe_face_loads_no_heavy_library():
    code = "import sys; from poseidon_caffe import caffe; print(*sys.modules)"
    loaded = set(_python("-c", code).split())
    assert not loaded & set(HEAVY)


def test_help_is_quick():
    took_s = []
    for _ in range(5):
        start = time.perf_counter()
        _python("-m", "poseidon_caffe", "--help")
        took_s.append(time.perf_counter() - start)
    assert min(took_s) < 0.3


def test_descriptor_set_is_compiled_only_when_stale(tmp_path, setup_module):
    compile_schema = setup_module["compile_schema"]
    proto, descriptors = tmp_path / "a b" / "x.proto", tmp_path / "out" / "x.desc"
    proto.parent.mkdir()
    proto.write_text('syntax = "proto2"; message A { optional int32 b = 1; }')
    assert compile_schema(proto, descriptors)
    assert descriptors.read_bytes()
    assert not compile_schema(proto, descriptors)
    newer = descriptors.stat().st_mtime + 1
    os.utime(proto, (newer, newer))
    assert compile_schema(proto, descriptors)
    assert list(descriptors.parent.iterdir()) == [descriptors]


def test_broken_proto_fails_and_keeps_the_old_descriptor_set(tmp_path, setup_module):
    proto, descriptors = tmp_path / "x.proto", tmp_path / "x.desc"
    descriptors.write_bytes(b"old")
    proto.write_text("message {")
    newer = descriptors.stat().st_mtime + 1
    os.utime(proto, (newer, newer))
    with pytest.raises(RuntimeError, match=r"x\.proto"):
        setup_module["compile_schema"](proto, descriptors)
    assert descriptors.read_bytes() == b"old"


def test_descriptor_set_belongs_to_the_proto(tmp_path, setup_module):
    fresh = tmp_path / "caffe.desc"
    setup_module["compile_schema"](ROOT / "proto" / "caffe.proto", fresh)
    kept = PACKAGE / "schema" / "caffe.desc"
    assert fresh.read_bytes() == kept.read_bytes(), "run make install"


def test_core_dependencies_stay_few():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    required = setup["options"]["install_requires"].split("\n")
    names = [line.split(">")[0].split("=")[0] for line in required if line]
    assert names == ["numpy", "protobuf", "lmdb", "pillow", "onednn-cpu-gomp"]


@pytest.mark.parametrize("script", [*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci/run"])
def test_shell_scripts_run_and_parse(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize(
    "target",
    ["install", "train", "test", "test-slow", "test-gpu", "lint", "bench", "bench-gpu",
     "clean"],
)  # fmt: skip
def test_makefile_has_the_target(target):
    # A dry run, of clean too, touches nothing.
    subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_an_old_python_is_refused_in_words(tmp_path):
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    python.chmod(0o755)
    script = ROOT / "scripts" / "make_venv.sh"
    done = subprocess.run(
        [script, python, tmp_path / "venv"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("smi", "message"),
    [
        ("exit 9", "the driver is for CUDA 'unknown'; 12 or newer"),
        ("echo 'Driver Version: 470.1  CUDA Version: 11.4 |'", "CUDA '11'; 12 or"),
        ("echo 'Driver Version: 580.1  CUDA Version: 13.0 |'", "has no CuPy"),
    ],
)
def test_gpu_environment_says_what_is_missing(tmp_path, smi, message):
    for name, text in (("nvidia-smi", smi), ("python3", "exit 1")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    words = ["python3", tmp_path / "venv", tmp_path / "x.desc", tmp_path / "python3"]
    done = subprocess.run(
        [ROOT / "scripts" / "gpu_env.sh", *words],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(("cuda", "extra"), [(12, "gpu12"), (13, "gpu")])
def test_gpu_environment_fits_the_driver(tmp_path, cuda, extra):
    """CuPy compiles by the newest NVRTC there is: CUDA 12 must have no newer one."""
    said = tmp_path / "said"
    for name, text in (
        ("nvidia-smi", f"echo 'CUDA Version: {cuda}.4 |'"),
        ("python3", "exit 0"),
        ("venv/bin/python", f'echo "$@" >> {said}'),
    ):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts/gpu_env.sh", "python3", tmp_path / "venv", tmp_path / "x"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == str(tmp_path / "venv/bin/python"), done.stderr
    words = said.read_text()
    assert f".[{extra},cudnn" in words
    assert ("uninstall --quiet --yes nvidia-cuda-nvrtc\n" in words) == (cuda == 12)


@pytest.mark.slow
def test_wheel_holds_schema_and_types(tmp_path):
    # Slow: pip fetches the build's requirements. A copy, since builds leave traces.

    copy = tmp_path / "copy"
    ignored = ("--exclude=.git", "--exclude=.venv", "--exclude=build")
    copy.mkdir()
    pack = subprocess.run(
        ["tar", "-c", *ignored, "--exclude=*.desc", "--exclude=tests", "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    subprocess.run(["tar", "-x"], cwd=copy, input=pack, check=True)
    _python("-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(copy))
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "poseidon_caffe/schema/caffe.desc" in names
    assert "poseidon_caffe/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/"))]
