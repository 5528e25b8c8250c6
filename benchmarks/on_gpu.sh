#!/usr/bin/env bash
# Builds, tests and benchmarks on a machine with an NVIDIA GPU, and leaves logs and JSON.
#
#   benchmarks/on_gpu.sh RESULTS_FOLDER [part ...]
#
# Parts, in this order: build native tests sanitizer ceilings kernels bench triton tune. A part that once succeeded is not run again,
# so that an interrupted run goes on where it stopped; naming parts runs just these. FASTCONV_CUDA_LIBRARY=
# libfastconv_cuda.a takes kernels that were compiled elsewhere. Each part has a limit of time, so that a table comes out
# in any case.
set -uo pipefail
out=$(mkdir -p "${1:?usage: benchmarks/on_gpu.sh RESULTS_FOLDER [part ...]}" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
shapes=fastconv/testing/shapes/cuda.txt
build=build/on-gpu

build() {
  { nvidia-smi; $python -c 'import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())'
    git rev-parse HEAD; } > "$out/machine.txt" 2>&1
  $python -m pip install -r requirements/build.txt -r requirements/test.txt > "$out/packages.log" 2>&1 ||
    echo "packages: some are missing, going on with what is there (packages.log)"
  FASTCONV_CUDA=ON $python -m pip install --no-build-isolation --no-deps --editable . > "$out/build.log" 2>&1 ||
    { tail -30 "$out/build.log"; return 1; }
  cmake -S . -B $build -G Ninja -DFASTCONV_TORCH=OFF -DFASTCONV_PYTHON=OFF -DFASTCONV_CUDA=ON \
    -DFASTCONV_CUDA_LIBRARY="${FASTCONV_CUDA_LIBRARY:-$(find "$PWD/build/in-place" -name libfastconv_cuda.a)}" \
    >> "$out/build.log" 2>&1 && ninja -C $build kernel_test_cuda kernel_bench_cuda >> "$out/build.log" 2>&1
}

native() {
  timeout 120 $build/kernel_test_cuda $shapes > "$out/native.log" 2>&1
  local status=$?
  grep FAIL "$out/native.log" | head -20
  tail -1 "$out/native.log"
  return $status
}

tests() {
  timeout 240 $python -m pytest -q tests/test_gpu.py > "$out/tests.log" 2>&1
  local status=$?
  tail -5 "$out/tests.log"
  return $status
}

sanitizer() {
  head -20 $shapes | grep -E 'cuda.(3x3|1x1|stem7x7) ' > "$out/one-shape.txt"
  timeout 120 compute-sanitizer --error-exitcode 1 $build/kernel_test_cuda "$out/one-shape.txt" > "$out/sanitizer.log" 2>&1
  local status=$?
  tail -3 "$out/sanitizer.log"
  return $status
}

ceilings() { timeout 60 $python benchmarks/ceilings.py "$out/ceilings.json"; }

kernels() {
  local dtype status=0
  grep -hv "[*]8 " ${shapes%cuda.txt}{dense,grouped,depthwise}.txt > "$out/layers.txt"  # --batch says how many images
  for dtype in f16 f32; do
    timeout 120 $build/kernel_bench_cuda --batch 32 --dtype $dtype "$out/layers.txt" > "$out/kernels-$dtype.txt" 2>&1 || status=1
    grep -E "FAIL|kernel_bench_cuda" "$out/kernels-$dtype.txt" | head -5
  done
  return $status
}

bench() {
  # Rows that nobody has measured yet are not chosen by themselves: `error` leaves torch's kernel out of the choice.
  FASTCONV_FALLBACK=error timeout 240 $python -m fastconv bench --device cuda --json "$out/bench.json" > "$out/bench.txt" 2> "$out/bench.err"
  local status=$?
  tail -30 "$out/bench.txt"
  return $status
}

triton() {  # the tests of the interpreter, on the device; then without the op library, and one shape a row under memcheck
  local status=0 spread
  spread=$($python -c 'import xdist' 2> /dev/null && echo "-n $(nproc) --dist load")  # the compiler is what takes time
  # shellcheck disable=SC2086
  timeout 400 $python -m pytest -q $spread tests/test_triton_rows.py > "$out/triton.log" 2>&1 || status=1
  FASTCONV_SKIP_NATIVE=1 timeout 120 $python -m pytest -q tests/test_gpu.py -k "not rows" > "$out/triton-pure.log" 2>&1 || status=1
  timeout 180 compute-sanitizer --error-exitcode 1 $python -m pytest -q tests/test_triton_rows.py -k one_shape \
    > "$out/triton-sanitizer.log" 2>&1 || status=1
  tail -qn 3 "$out/triton.log" "$out/triton-pure.log" "$out/triton-sanitizer.log"
  return $status
}

tune() {
  timeout 400 $python -m fastconv tune --set figures --batch 32 --json "$out/tune.json" > "$out/tune.txt" 2> "$out/tune.err"
  local status=$?
  tail -40 "$out/tune.txt"
  return $status
}

[ $# -gt 0 ] || set -- build native tests sanitizer ceilings kernels bench triton tune
failed=()
for part in "$@"; do
  [ -e "$out/$part.done" ] && continue
  begin=$SECONDS
  echo "== $part"
  if $part; then touch "$out/$part.done"; else failed+=("$part"); fi
  echo "   $part: $((SECONDS - begin)) s"
done
echo "failed: ${failed[*]:-none}"
[ ${#failed[@]} -eq 0 ]
