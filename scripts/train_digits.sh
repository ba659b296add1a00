#!/bin/bash
# The main job on built-in data: LeNet on the UCI handwritten digits.
# Usage: train_digits.sh BIN DIR [flags for poseidon train]
#   BIN  folder with the installed `python` and `poseidon`
#   DIR  gets the LMDBs, lenet.log and the snapshots; the solver names the same folder
set -euo pipefail
bin=$1 dir=$2
shift 2

mkdir -p "$dir"
"$bin/python" -m poseidon_caffe.data.digits "$dir"
# The log is shown and kept in the form that Caffe's log parsers read; pipefail
# makes a failed training fail this script in spite of tee.
"$bin/poseidon" train --solver models/lenet/digits_solver.prototxt "$@" \
  2>&1 | tee "$dir/lenet.log"

accuracy=$(grep -o 'Test net output #0: accuracy = [0-9.e+-]*' "$dir/lenet.log" |
  tail -n 1 | sed 's/.*= //') || accuracy=unknown
printf '\nTest accuracy %s; log, weights and solver state are in %s:\n' \
  "$accuracy" "$dir"
ls -1 "$dir"/*.log "$dir"/*.caffemodel "$dir"/*.solverstate
