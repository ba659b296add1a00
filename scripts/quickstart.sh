#!/bin/bash
# From nothing to a trained net: clone, install, train LeNet on digits.
# Usage: quickstart.sh [REPO_URL_OR_PATH] [DIR]
#   REPO_URL_OR_PATH  what to clone; the checkout this script stands in by default
#   DIR               where to; ./poseidon by default
# An existing DIR that holds a checkout is used as it is.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
repo=${1:-$here}
dir=${2:-poseidon}

fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

for tool in git make; do
  command -v "$tool" >/dev/null || fail "'$tool' is missing; please install it first"
done
if [[ -e $dir/setup.cfg ]]; then
  printf 'quickstart: using the checkout in %s\n' "$dir"
elif [[ -d $dir && -n $(ls -A -- "$dir") ]]; then
  fail "'$dir' exists and is not a checkout of Poseidon; name another folder"
else
  git clone --quiet -- "$repo" "$dir"
fi
cd -- "$dir"
make train

printf '\nPoseidon is in %s. Next:\n' "$PWD"
cat <<'NEXT'
  source .venv/bin/activate
  poseidon --help
  poseidon test --model models/lenet/digits_train_test.prototxt \
      --weights build/lenet_digits/lenet_iter_1000.caffemodel --iterations 6
Read docs/setup.md to train on your own data.
NEXT
