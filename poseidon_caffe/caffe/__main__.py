"""``python -m poseidon_caffe.caffe SCRIPT ARGS``: run a script that imports caffe.

The script says ``import caffe`` and is not changed.  ``-m MODULE ARGS`` and
``-c CODE ARGS`` work as they do with python itself.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

from poseidon_caffe.caffe import shim
from poseidon_caffe.caffe.alias import install

_USAGE = """\
usage: python -m poseidon_caffe.caffe SCRIPT [ARGS...]
       python -m poseidon_caffe.caffe -m MODULE [ARGS...]
       python -m poseidon_caffe.caffe -c CODE [ARGS...]

Run a Python script in which `import caffe` gives Poseidon's pycaffe face.
"""
_MACHINERY = (__file__, runpy.__file__, "<frozen runpy>")


def run(words: Sequence[str]) -> int:
    """Run what the words say; the exit code of what is wrong with them.

    Raises:
        BaseException: what the script raises, SystemExit included.
    """
    if not words or words[0] in {"-h", "--help"}:
        return _complain(_USAGE, 0 if words else 2)
    if words[0] in {"-m", "-c"} and len(words) == 1:
        return _complain(f"argument expected for the {words[0]} option\n{_USAGE}", 2)
    install()
    if words[0] == "-m":
        _start([words[1], *words[2:]], str(Path.cwd()))
        runpy.run_module(words[1], None, "__main__", alter_sys=True)
    elif words[0] == "-c":
        _start(["-c", *words[2:]], "")
        _run_code(words[1])
    else:
        return _run_script(words)
    return 0


def _run_script(words: Sequence[str]) -> int:
    script = words[0]
    try:
        if not Path(script).is_dir():
            Path(script).open("rb").close()
        elif not (Path(script) / "__main__.py").exists():
            return _complain(f"can't find '__main__' module in {script!r}\n", 1)
    except OSError as error:
        text = f"can't open file {str(Path.cwd() / script)!r}: "
        return _complain(f"{text}[Errno {error.errno}] {error.strerror}\n", 2)
    _start(words, str(Path(script).resolve().parent))
    runpy.run_path(script, run_name="__main__")
    return 0


def _start(argv: Sequence[str], folder: str) -> None:
    """Give the script the arguments and the import path that python would."""
    sys.argv[:] = argv
    first = 0
    if not sys.flags.safe_path:
        # `python -m` has put the working directory there.
        if sys.path and sys.path[0] in {"", str(Path.cwd())}:
            del sys.path[0]
        sys.path.insert(0, folder)
        first = 1
    sys.path.insert(first, str(Path(shim.__file__).parent))


def _run_code(code: str) -> None:
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    exec(compile(code, "<string>", "exec"), main.__dict__)  # noqa: S102 - asked for


def _of_script(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and _file(trace.tb_frame) in _MACHINERY:
        trace = trace.tb_next
    return trace


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename


def _complain(text: str, code: int) -> int:
    (sys.stderr if code else sys.stdout).write(text)
    return code


def _show(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """As python does, but from the script's own first frame on."""
    error.__traceback__ = _of_script(trace)
    sys.__excepthook__(kind, error, error.__traceback__)


if __name__ == "__main__":
    sys.excepthook = _show
    raise SystemExit(run(sys.argv[1:]))
