#include "core/cpu/peak.h"

#include <chrono>

#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

using Loop = double (*)(int64_t);

Loop loop_of(const Target& at) {
#if defined(__x86_64__)
  if (at.level >= target::avx512.level) return fma_loop_avx512;
  if (at.level >= target::avx2.level) return fma_loop_avx2;
#endif
  (void)at;
  return fma_loop_cpu;
}

double seconds_of(Loop loop, int64_t iterations, double* flops) {
  const int threads = num_threads();
  const auto begin = std::chrono::steady_clock::now();
  parallel_for(threads, [&](int64_t) { loop(iterations); });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  *flops = threads * loop(1) * static_cast<double>(iterations);
  return elapsed.count();
}

}  // namespace

double measured_peak(const Target& target, double seconds) {
  constexpr int kTrials = 10;
  const Loop loop = loop_of(target);
  double flops = 0, best = 0;
  int64_t iterations = 1000;
  while (seconds_of(loop, iterations, &flops) < seconds / kTrials) iterations *= 2;
  for (int trial = 0; trial < kTrials; ++trial) {
    const double elapsed = seconds_of(loop, iterations, &flops);
    best = flops / elapsed > best ? flops / elapsed : best;
  }
  return best * 1e-9;
}

}  // namespace fastconv
