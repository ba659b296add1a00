#!/bin/bash
# All quick tests: those that watch no short deadline two at a time, the others (failing
# ranks, the house's own) one after the other.  Usage: run_tests.sh PYTHON [pytest's arguments]
set -uo pipefail
python=$1
shift

# Folders of tests that share nothing and bear a busy machine.
together=(tests/backend tests/caffe tests/cli tests/data tests/layers tests/models
  tests/net tests/report tests/schema tests/solver)

for argument in "$@"; do
  if [[ $argument == tests* ]]; then # what the caller names runs as it is
    exec "$python" -m pytest -m "not slow" "$@"
  fi
done

ignored=("${together[@]/#/--ignore=}")
"$python" -m pytest -m "not slow" -n 2 --dist worksteal "${together[@]}" "$@"
first=$?
"$python" -m pytest -m "not slow" "${ignored[@]}" "$@"
second=$?

# 5: nothing of that part was chosen, which is fine unless neither had anything.
[[ $first == 5 && $second == 5 ]] && exit 5
[[ $first == 0 || $first == 5 ]] && [[ $second == 0 || $second == 5 ]]
