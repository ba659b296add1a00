"""``poseidon device_query`` and how it reads /proc."""

from __future__ import annotations

import platform

from poseidon_caffe.cli.devices import instruction_sets, processor_name
from tests.cli.program import poseidon

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) CPU
flags\t\t: fpu sse4_2 avx fma avx2 avx512f avx512_vnni
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd sve\n"


def test_it_tells_what_computes():
    done = poseidon("device_query", "--threads=3")
    assert done.returncode == 0
    rows = {}
    for line in done.stderr.splitlines():
        name, _, value = line.split("] ", 1)[1].partition(":")
        rows[name] = value.strip()
    assert rows["Device"] == "CPU"
    assert rows["Threads"] == "3"
    assert rows["Architecture"] == platform.machine()
    assert "for this process" in rows["Cores"]
    assert "GiB" in rows["Memory"]
    assert rows["Compute library"].startswith(("oneDNN ", "NumPy"))


def test_reading_cpuinfo():
    assert processor_name(INTEL) == "Intel(R) Xeon(R) CPU"
    assert instruction_sets(INTEL) == [
        "AVX-512 VNNI",
        "AVX-512",
        "AVX2",
        "FMA",
        "AVX",
        "SSE4.2",
    ]
    assert instruction_sets(ARM) == ["SVE", "NEON"]
    assert instruction_sets("") == []
    assert processor_name("") != ""
