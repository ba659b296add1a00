"""``import caffe`` in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

NAMES = (
    "io net_spec proto proto.caffe_pb2 pycaffe _caffe layers params classifier "
    "detector draw coord_map"
)


def python(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=folder, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_has_its_old_name_once(tmp_path):
    code = f"""
import sys
from poseidon_caffe.caffe.alias import install
install()
install()
import importlib, caffe
for name in {NAMES!r}.split():
    ours = importlib.import_module("poseidon_caffe.caffe." + name)
    assert importlib.import_module("caffe." + name) is ours, name
from caffe import layers as L, params as P, to_proto, NetSpec
from caffe.proto import caffe_pb2
import caffe.io
assert caffe.Net is caffe.pycaffe.Net is caffe._caffe.Net
assert caffe.TRAIN == caffe_pb2.TRAIN
assert caffe.io.caffe_pb2 is caffe_pb2
print(caffe.__name__, caffe.__version__)
"""
    assert python(code, tmp_path) == "poseidon_caffe.caffe 1.0.0\n"


def test_a_real_caffe_stays(tmp_path):
    (tmp_path / "caffe.py").write_text("REAL = True\n")
    code = """
import caffe
from poseidon_caffe.caffe.alias import install
install()
import sys
print(caffe.REAL, sys.modules["caffe"] is caffe, "caffe.io" in sys.modules)
"""
    assert python(code, tmp_path) == "True True False\n"


@pytest.mark.parametrize("library", ["h5py", "matplotlib", "PIL", "cv2", "scipy"])
def test_it_loads_no_heavy_library(tmp_path, library):
    code = f"""
from poseidon_caffe.caffe.alias import install
install()
import sys
print({library!r} in sys.modules)
"""
    assert python(code, tmp_path) == "False\n"


def test_the_shim_folder_gives_the_face_to_whoever_has_it_on_the_path(tmp_path):
    code = """
import os, sys
import poseidon_caffe
root = os.path.dirname(poseidon_caffe.__file__)
sys.path.insert(0, os.path.join(root, "caffe", "shim"))
import caffe
from caffe import io
import caffe.net_spec
print(caffe.__name__, io.__name__, caffe is sys.modules["caffe"])
"""
    said = "poseidon_caffe.caffe poseidon_caffe.caffe.io True\n"
    assert python(code, tmp_path) == said
