"""Runs cases of one target in a process that may die of them.

``python -m tests.fuzz.worker TARGET SEED FIRST COUNT SECONDS FOLDER`` leaves the
case that runs in ``FOLDER/case`` and its number in ``FOLDER/current``; cases that
end in anything but success or a PoseidonError are told on stdout and kept in
``FOLDER/failed-NUMBER``.
"""

from __future__ import annotations

import faulthandler
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path

CASE_S = 60
MEMORY_BYTES = 2 << 30
SLOW_S = 3.0
FAILURES_MAX = 12


def main(words: list[str]) -> int:
    """Run; 1 when a case failed."""
    name, folder = words[0], Path(words[5])
    seed, first, count = map(int, words[1:4])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")

    from poseidon_caffe.errors import PoseidonError
    from tests.fuzz.targets import TARGETS

    end_s = time.monotonic() + float(words[4])
    seen: set[str] = set()
    done = 0
    for number in range(first, first + count):
        if time.monotonic() > end_s or len(seen) >= FAILURES_MAX:
            break
        case = folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir(parents=True)
        (folder / "current").write_text(f"{name} seed {seed} number {number}")
        run = TARGETS[name](random.Random(f"{name}/{seed}/{number}"), case)
        faulthandler.dump_traceback_later(CASE_S, exit=True)
        began_s = time.monotonic()
        try:
            run()
        except PoseidonError:
            pass
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} {place.filename}:{place.lineno}"
            if key not in seen:
                seen.add(key)
                shutil.copytree(case, folder / f"failed-{number}", dirs_exist_ok=True)
                print(f"--- {name} seed {seed} number {number}:")
                print("".join(traceback.format_exception(error)[-6:]), flush=True)
        took_s = time.monotonic() - began_s
        if took_s > SLOW_S:
            print(f"{name} seed {seed} number {number} took {took_s:.1f} s", flush=True)
        faulthandler.cancel_dump_traceback_later()
        done += 1
    print(f"{name}: {done} cases", flush=True)
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
