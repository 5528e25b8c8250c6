#!/usr/bin/env bash
# Builds, tests and benchmarks on a machine with an NVIDIA GPU, Python 3.12 and torch 2.11, and leaves logs and JSON.
#
#   benchmarks/on_gpu.sh RESULTS_FOLDER
#
# There are no CUDA kernels yet: this shows that the build, the op library and the CPU kernels work beside a CUDA torch,
# and records what the machine's processor reaches.
set -uo pipefail
out=$(mkdir -p "${1:?usage: benchmarks/on_gpu.sh RESULTS_FOLDER}" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

{ nvidia-smi; lscpu; $python -c 'import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())'; } \
  > "$out/machine.txt" 2>&1
$python -m pip install -r requirements/build.txt -r requirements/test.txt > "$out/packages.log" 2>&1 ||
  echo "packages: some are missing, going on with what is there (see packages.log)"
$python -m pip install --no-build-isolation --no-deps --editable . > "$out/build.log" 2>&1 ||
  { tail -30 "$out/build.log"; exit 1; }
$python -m fastconv info | tee "$out/info.txt"
$python -m pytest -q tests > "$out/tests.log" 2>&1
tests=$?
tail -5 "$out/tests.log"
$python -m fastconv bench --json "$out/quick.json" > "$out/quick.txt" 2> "$out/bench.err"
$python -m fastconv bench --set figures --quick --json "$out/figures.json" > "$out/figures.txt" 2>> "$out/bench.err"
tail -15 "$out/figures.txt"
$python -m fastconv demo --json "$out/demo.json" > "$out/demo.txt" 2>> "$out/bench.err"
cat "$out/demo.txt"
exit $tests
