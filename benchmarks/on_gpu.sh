#!/usr/bin/env bash
# Builds, tests and benchmarks on a machine with an NVIDIA GPU, and leaves logs and JSON.
#
#   benchmarks/on_gpu.sh RESULTS_FOLDER [part ...]
#
# Parts, in this order: build native ceilings bench kernels tests sanitizer triton tune. What says most comes first: the
# whole is cut off after FASTCONV_ON_GPU_SECONDS (570), and each part after a limit of its own, so that results come out
# in any case. They are gathered in build/on-gpu/results, and after each part results.tgz in the folder holds them all.
# A part that once succeeded is not run again there, so that a run that was cut off goes on with the same commit; parts
# that are named are run in any case, and only they. FASTCONV_CUDA_LIBRARY=libfastconv_cuda.a takes kernels that were
# compiled elsewhere, FASTCONV_COMMIT names the commit where there is no repository.
set -uo pipefail
: "${1:?usage: benchmarks/on_gpu.sh RESULTS_FOLDER [part ...]}"
folder=$(mkdir -p "$1" && cd "$1" && pwd) || exit 1
shift
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
shapes=fastconv/testing/shapes
build=build/on-gpu
out=$build/results
commit=${FASTCONV_COMMIT:-$(git rev-parse HEAD)}
[ "$(cat $out/commit.txt 2> /dev/null)" = "$commit" ] || rm -rf $out
mkdir -p $out
echo "$commit" > $out/commit.txt
export PYTHONUNBUFFERED=1 FASTCONV_CACHE=$PWD/$out/cache
deadline=$((SECONDS + ${FASTCONV_ON_GPU_SECONDS:-570}))

limited() {  # SECONDS command ...: stopped by an interrupt, at which pytest still sums up (not where `&` made it deaf)
  local left=$((deadline - SECONDS)) most=$1
  shift
  [ "$left" -gt 15 ] || { echo "no time left for: $*"; return 1; }
  timeout -s INT -k 10 $((left < most ? left : most)) "$@"
}

build() {
  { nvidia-smi; $python -c 'import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())'
    echo "commit $commit"; } > $out/machine.txt 2>&1
  $python -c 'import ninja, numpy, pybind11, pytest, triton, xdist' 2>> $out/packages.log ||
    limited 60 $python -m pip install --retries 0 -r requirements/build.txt -r requirements/test.txt >> $out/packages.log 2>&1 ||
    echo "packages: some are missing, going on with what is there (packages.log)"
  FASTCONV_CUDA=ON FASTCONV_CUDA_ON_CPU=OFF limited 300 \
    $python -m pip install --no-build-isolation --no-deps --editable . > $out/build.log 2>&1 ||
    { tail -30 $out/build.log; return 1; }
  cmake -S . -B $build -G Ninja -DFASTCONV_TORCH=OFF -DFASTCONV_PYTHON=OFF -DFASTCONV_CUDA=ON \
    -DFASTCONV_CUDA_LIBRARY="${FASTCONV_CUDA_LIBRARY:-$(find "$PWD/build/in-place" -name libfastconv_cuda.a)}" \
    >> $out/build.log 2>&1 && limited 120 ninja -C $build kernel_test_cuda kernel_bench_cuda >> $out/build.log 2>&1
}

rows() { sed -n 's/^FASTCONV_KERNEL(.*, *\([a-z0-9_]*\))$/\1/p' csrc/*/cuda/kernels.inc; }

native() {  # a process a row: an illegal access ends its process, and says nothing of other rows
  rm -rf $out/native && mkdir $out/native
  rows | limited 90 xargs -P 8 -I{} bash -c \
    "timeout --foreground -k 5 60 $build/kernel_test_cuda $shapes/cuda.txt $shapes/cuda_tiles.txt $shapes/pool.txt --kernel {} > $out/native/{}.log 2>&1 || echo 'FAIL {}'" > $out/native.txt
  echo "$(grep -c . $out/native.txt) of $(rows | wc -l) rows fail"
  head -40 $out/native.txt
  grep -h FAIL $out/native/*.log | cut -c1-200 | head -20
  [ "$(grep -l ', 0 failed' $out/native/*.log | wc -l)" -eq "$(rows | wc -l)" ]
}

ceilings() { limited 30 $python benchmarks/ceilings.py $out/ceilings.json; }

bench() {
  # Rows that nobody has measured yet are not chosen by themselves: `error` leaves torch's kernel out of the choice.
  # float32 is strict, without TF32, on both sides.
  local one status=0 main="import sys, torch; torch.backends.cudnn.conv.fp32_precision = 'ieee'
from fastconv.cli import main; sys.exit(main(sys.argv[1:]))"
  for one in bf16-fprop bf16-wgrad bf16-dgrad f32-fprop; do
    FASTCONV_FALLBACK=error limited 60 $python -c "$main" bench --device cuda --set figures --batch 32 --dtype ${one%-*} \
      --direction ${one#*-} --json $out/bench-$one.json > $out/bench-$one.txt 2> $out/bench-$one.err || status=1
    tail -25 $out/bench-$one.txt
  done
  for one in fprop dgrad; do
    FASTCONV_FALLBACK=error limited 60 $python -c "$main" bench --device cuda --set pool --batch 128 --dtype bf16 \
      --direction $one --json $out/bench-pool-$one.json > $out/bench-pool-$one.txt 2> $out/bench-pool-$one.err || status=1
    tail -30 $out/bench-pool-$one.txt
  done
  return $status
}

kernels() {
  local dtype status=0
  # --batch says how many images; a maximum's gradient by indices of one byte, too.
  grep -hv "[*]8 " $shapes/{dense,grouped,depthwise}.txt > $out/layers.txt
  grep -h "_n1_" fastconv/bench/sets/pool.txt | sed '/_max/{p;s/_max/_max_u8/}' >> $out/layers.txt
  for dtype in bf16 f32; do
    limited 60 $build/kernel_bench_cuda --batch 32 --dtype $dtype $out/layers.txt > $out/kernels-$dtype.txt 2>&1 || status=1
    grep -E "FAIL|kernel_bench_cuda" $out/kernels-$dtype.txt | head -5
  done
  return $status
}

tests() {
  limited 90 $python -m pytest -v --tb=short tests/test_gpu.py > $out/tests.log 2>&1
  local status=$?
  grep -E "^(FAILED|ERROR)" $out/tests.log | head -20
  tail -3 $out/tests.log
  return $status
}

sanitizer() {  # a shape a row
  limited 90 compute-sanitizer --error-exitcode 1 $build/kernel_test_cuda $shapes/cuda.txt $shapes/pool.txt --most 1 > $out/sanitizer.log 2>&1
  local status=$?
  tail -3 $out/sanitizer.log
  return $status
}

triton() {  # the tests of the interpreter, on the device; then without the op library, and one shape a row under memcheck
  local status=0 spread
  spread=$($python -c 'import xdist' 2> /dev/null && echo "-n $(nproc) --dist load")  # the compiler is what takes time
  # shellcheck disable=SC2086
  limited 400 $python -m pytest -q $spread tests/test_triton_rows.py > $out/triton.log 2>&1 || status=1
  FASTCONV_SKIP_NATIVE=1 limited 120 $python -m pytest -q tests/test_gpu.py -k "not rows" > $out/triton-pure.log 2>&1 || status=1
  limited 180 compute-sanitizer --error-exitcode 1 $python -m pytest -q tests/test_triton_rows.py -k one_shape \
    > $out/triton-sanitizer.log 2>&1 || status=1
  tail -qn 3 $out/triton.log $out/triton-pure.log $out/triton-sanitizer.log
  return $status
}

tune() {
  local left=$((deadline - SECONDS))
  limited 600 $python -m fastconv tune --set figures --batch 32 --limit $((left > 60 ? left - 30 : 30)) \
    --json $out/tune.json > $out/tune.txt 2> $out/tune.err
  local status=$?
  tail -40 $out/tune.txt
  return $status
}

named=$#
[ $named -gt 0 ] || set -- build native ceilings bench kernels tests sanitizer triton tune
failed=()
for part in "$@"; do
  [ $named -eq 0 ] && [ -e $out/$part.done ] && continue
  begin=$SECONDS
  echo "== $part"
  if $part; then touch $out/$part.done; else failed+=("$part"); fi
  echo "   $part: $((SECONDS - begin)) s"
  tar czf "$folder/results.tgz" -C $build results
done
echo "failed: ${failed[*]:-none}"
[ ${#failed[@]} -eq 0 ]
