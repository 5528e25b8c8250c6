// One thread's share of the peak: twelve chains of multiply-adds, enough to cover the latency of two units a cycle and
// few enough for the registers of every target.

#include "core/cpu/peak.h"
#include "core/cpu/simd.h"

namespace fastconv {
namespace {

constexpr int kChains = 12;

}  // namespace

double FASTCONV_NAME(fma_loop)(int64_t iterations) {
  volatile float factor = 0.999f, term = 0.001f;  // volatile: unknown to the compiler, so that no chain can be folded
  const Vec a = broadcast(factor), b = broadcast(term);
  Vec sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = broadcast(static_cast<float>(i));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int chain = 0; chain < kChains; ++chain) sum[chain] = fma(sum[chain], a, b);
  }
  Vec total = zero();
  for (int i = 0; i < kChains; ++i) total = total + sum[i];
  float lanes[kLanes];
  store(lanes, total);
  volatile float used = lanes[0];
  (void)used;
  return 2.0 * kChains * kLanes * static_cast<double>(iterations);
}

}  // namespace fastconv
