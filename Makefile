# `make bench` and `make test`: each alone, from a fresh clone, with Python 3.11 or later, a C++ compiler and pip; no root.
# They set up .venv with pinned packages (CMake and ninja among them), build, and run. `make bench` builds no CUDA kernels
# unless it is asked to (FASTCONV_CUDA=AUTO); the tests build them wherever nvcc is found, and need no GPU.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SOURCES := $(shell find csrc cmake -type f) CMakeLists.txt setup.py pyproject.toml
# PyPI's torch for Linux brings CUDA's libraries along; the index of CPU wheels does not. Used where it can be reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

CUDA_FOR_BENCH := $(or $(FASTCONV_CUDA),OFF)
FASTCONV_CUDA ?= AUTO
# Beside the kernels for 9.0a alone: it stands for the four that `pip install .` compiles for and `.ci/run` tests.
FASTCONV_CUDA_ARCHITECTURES ?= 80
export FASTCONV_CUDA FASTCONV_CUDA_ARCHITECTURES

.PHONY: bench test install lint results clean

bench:
	@$(MAKE) --no-print-directory install FASTCONV_CUDA=$(CUDA_FOR_BENCH)
	$(BIN)/python -m fastconv info
	$(BIN)/python -m fastconv bench --json build/bench/layers.json
	$(BIN)/python -m fastconv demo --json build/bench/network.json
	@echo
	@$(BIN)/python -m fastconv summary build/bench/network.json build/bench/layers.json

test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

install: $(VENV)/built-$(FASTCONV_CUDA)

$(VENV)/packages: requirements/torch.txt requirements/build.txt requirements/test.txt
	@test -n "$(PYTHON)" || { echo "fastconv needs Python 3.11 or later; name one by make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@if $(PYTHON) -c 'import urllib.request as u; u.urlopen("$(TORCH_INDEX)/torch/", timeout=5)' 2> /dev/null; then \
		echo "torch from $(TORCH_INDEX)"; $(PIP) -r requirements/torch.txt --extra-index-url $(TORCH_INDEX); \
	else echo "torch from the default index"; $(PIP) -r requirements/torch.txt; fi
	$(PIP) -r requirements/build.txt -r requirements/test.txt
	@touch $@

$(VENV)/built-$(FASTCONV_CUDA): $(VENV)/packages $(SOURCES)
	$(PIP) --no-build-isolation --no-deps --editable .
	@rm -f $(VENV)/built-* && touch $@

lint: install
	$(PIP) -r requirements/lint.txt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.cc' 'csrc/*.cu' 'csrc/*.h')

# The committed measurements of this machine, and the pages made from them.
results: install
	$(BIN)/python benchmarks/measure.py
	$(BIN)/python benchmarks/render.py

clean:
	rm -rf $(VENV) build build-asan fastconv/*.so
