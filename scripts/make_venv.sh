#!/bin/bash
# Makes the virtual environment DIR with pip in it; keeps a good one.
# Usage: make_venv.sh PYTHON DIR
set -euo pipefail
python=$1 dir=$2

fail() { printf 'make install: %s\n' "$*" >&2; exit 1; }

works() { "$dir/bin/python" -m pip --version >/dev/null 2>&1; }

command -v "$python" >/dev/null ||
  fail "no '$python' here; install Python 3.11 or newer, or name one:" \
       "PYTHON=/path/to/python3 make"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "'$python' is $("$python" --version 2>&1); Poseidon needs Python 3.11 or" \
       "newer: PYTHON=/path/to/python3.11 make"

# Kept when it works: packages are brought up to date by pip itself.
if works; then exit 0; fi
rm -rf "$dir"
if ! "$python" -m venv "$dir" >/dev/null 2>&1; then
  # Debian leaves ensurepip out of python3: a pip from outside can fill in.
  rm -rf "$dir"
  "$python" -m venv --without-pip "$dir" ||
    fail "'$python -m venv' failed; on Debian or Ubuntu: apt install python3-venv"
  "$python" -m pip --python "$dir/bin/python" install --quiet pip >/dev/null 2>&1 ||
    fail "no pip for the environment; on Debian or Ubuntu: apt install python3-venv"
fi
works || fail "the environment made in $dir has no working pip"
