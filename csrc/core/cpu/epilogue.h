// The Epilogue on vectors of channels, for float32 kernels.
#pragma once

#include <type_traits>

#include "core/cpu/simd.h"
#include "core/epilogue.h"

namespace fastconv {
namespace {

FASTCONV_INLINE Vec activate(Vec x, Activation activation) {
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return max(zero(), x);
    case Activation::kRelu6: return min(broadcast(6.0f), max(zero(), x));
    case Activation::kHardSwish:
      return x * min(broadcast(6.0f), max(zero(), x + broadcast(3.0f))) * broadcast(1.0f / 6);
    case Activation::kSilu: return x * sigmoid(x);
    case Activation::kSigmoid: return sigmoid(x);
  }
  return x;
}

/// Calls `body` with the activation as a constant.
template <class Body>
FASTCONV_INLINE void with_activation(Activation activation, const Body& body) {
  using enum Activation;
  switch (activation) {
    case kNone: return body(std::integral_constant<Activation, kNone>{});
    case kRelu: return body(std::integral_constant<Activation, kRelu>{});
    case kRelu6: return body(std::integral_constant<Activation, kRelu6>{});
    case kHardSwish: return body(std::integral_constant<Activation, kHardSwish>{});
    case kSilu: return body(std::integral_constant<Activation, kSilu>{});
    case kSigmoid: return body(std::integral_constant<Activation, kSigmoid>{});
  }
}

/// The channels [channel, channel + kLanes) of one output pixel; `residual` is that pixel's own, or null.
/// `n` lanes exist in memory; the rest is neither read nor meant.
FASTCONV_INLINE Vec finish(Vec sum, const Epilogue& e, int64_t channel, const float* residual, int64_t n) {
  if (e.scale) sum = sum * load(static_cast<const float*>(e.scale) + channel, n);
  if (e.shift) sum = sum + load(static_cast<const float*>(e.shift) + channel, n);
  if (residual) sum = sum + load(residual, n);
  return activate(sum, e.activation);
}

/// Finishes `sum` and writes the channels [channel, channel + n) of the output pixel whose channels begin at `pixel`,
/// an offset in elements into `out` and the residual. n <= kLanes.
FASTCONV_INLINE void finish_and_store(Vec sum, const Epilogue& e, float* out, int64_t pixel, int64_t channel,
                                      int64_t n) {
  if (!e.empty()) {
    const float* residual = e.residual ? static_cast<const float*>(e.residual) + pixel + channel : nullptr;
    sum = finish(sum, e, channel, residual, n);
  }
  if (n == kLanes) store(out + pixel + channel, sum);
  else store(out + pixel + channel, sum, n);
}

/// Whether the epilogue is a shift, which sums may start from, and a clamp.
FASTCONV_INLINE bool is_shift_and_clamp(const Epilogue& e) {
  return !e.scale && !e.residual &&
         (e.activation == Activation::kNone || e.activation == Activation::kRelu || e.activation == Activation::kRelu6);
}

struct Clamp {
  Vec low, high;
};
FASTCONV_INLINE Clamp clamp_of(Activation activation) {
  return {broadcast(activation == Activation::kNone ? -__builtin_inff() : 0.0f),
          broadcast(activation == Activation::kRelu6 ? 6.0f : __builtin_inff())};
}
/// NaN stays NaN.
FASTCONV_INLINE Vec apply(const Clamp& clamp, Vec x) { return min(clamp.high, max(clamp.low, x)); }

/// The whole epilogue for `count` output pixels, `out_pixel` apart, whose sums lie in `sums`. For kernels that are
/// compiled in many shapes: out of line, so that each of them stays small.
__attribute__((noinline)) void finish_tile(const float* sums, int count, const Epilogue& e, float* out, int64_t pixel,
                                           int64_t out_pixel, int64_t channel, int64_t n) {
  for (int j = 0; j < count; ++j) finish_and_store(load(sums + j * kLanes), e, out, pixel + j * out_pixel, channel, n);
}

/// Whether an output of whole vectors is better written past the caches: `floats`, read and written by the call,
/// outgrow what it may hope for of the shared cache, so that a line would be fetched before its write and evicted
/// after. A smaller output would be written faster that way too, but the layer that reads it next would lose more.
inline bool outgrows_caches(int64_t floats, int64_t channels, const void* out) {
  constexpr int64_t kShared = (int64_t{16} << 20) / static_cast<int64_t>(sizeof(float));
  return floats > kShared && channels % kLanes == 0 && reinterpret_cast<uintptr_t>(out) % sizeof(Vec) == 0;
}

}  // namespace
}  // namespace fastconv
