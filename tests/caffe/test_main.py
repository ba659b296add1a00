"""``python -m poseidon_caffe.caffe``: unchanged scripts."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """\
import sys
import caffe
import beside
from caffe import layers as L

if __name__ == "__main__":
    print(sys.argv, sys.path[0] == beside.FOLDER, __file__, caffe.__version__)
    if "fail" in sys.argv:
        raise ValueError("mine") from KeyError("cause")
    if "exit" in sys.argv:
        sys.exit(7)
"""


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "scripts"
    inside.mkdir()
    (inside / "script.py").write_text(SCRIPT)
    text = "import os\nFOLDER = os.path.dirname(os.path.realpath(__file__))\n"
    (inside / "beside.py").write_text(text)
    return tmp_path


def run(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "poseidon_caffe.caffe", *words], cwd=folder, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_script_finds_what_python_gives_it(folder):
    done = run(folder, "scripts/script.py", "--flag", "x y")
    assert done.stderr == ""
    said = "['scripts/script.py', '--flag', 'x y'] True scripts/script.py 1.0.0\n"
    assert (done.stdout, done.returncode) == (said, 0)


def test_its_exceptions_look_as_python_shows_them(folder):
    done = run(folder, "scripts/script.py", "fail")
    assert done.returncode == 1
    assert done.stderr.startswith("KeyError: 'cause'\n\nThe above exception")
    assert 'Traceback (most recent call last):\n  File "' in done.stderr
    assert done.stderr.endswith("ValueError: mine\n")
    assert "runpy" not in done.stderr
    assert "poseidon_caffe" not in done.stderr


def test_its_exit_code_is_ours(folder):
    assert run(folder, "scripts/script.py", "exit").returncode == 7


def test_modules_and_code(folder):
    (folder / "beside.py").write_text("import os\nFOLDER = os.getcwd()\n")
    (folder / "mod.py").write_text(SCRIPT)
    done = run(folder, "-m", "mod", "a")
    assert done.returncode == 0, done.stderr
    assert "mod.py', 'a'] True" in done.stdout
    done = run(folder, "-c", "import caffe, sys; print(caffe.Net, sys.argv)", "b")
    assert done.stdout == "<class 'poseidon_caffe.caffe.net.Net'> ['-c', 'b']\n"
    done = run(folder, "-c", "def f():\n  1 / 0\nf()")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1] == '  File "<string>", line 3, in <module>'


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere.py",), 2, "can't open file "),
        ((), 2, "usage: python -m poseidon_caffe.caffe"),
        (("-m",), 2, "argument expected for the -m option"),
        (("-m", "no_such_module"), 1, "No module named no_such_module"),
        (("scripts",), 1, "can't find '__main__' module in 'scripts'"),
    ],
)
def test_wrong_words_are_told(folder, words, code, said):
    done = run(folder, *words)
    assert done.returncode == code
    assert said in done.stderr
    assert "runpy" not in done.stderr


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_that_the_script_starts_find_caffe_too(folder, method):
    (folder / "many.py").write_text(f"""
import multiprocessing
import caffe
import caffe.io

def work(number):
    from caffe import NetSpec
    return caffe.__name__, NetSpec is caffe.NetSpec, number

if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(pool.map(work, [1]))
""")
    done = run(folder, "many.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[('poseidon_caffe.caffe', True, 1)]\n"


def test_help(folder):
    done = run(folder, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m poseidon_caffe.caffe SCRIPT")
