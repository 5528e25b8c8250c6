// One vector of floats, as wide as the instruction set this file is compiled for.
//
// A kernel file is compiled once for each target with FASTCONV_ISA defined (cmake/isa.cmake). Everything here and in
// the kernels is in an anonymous namespace: code of one instruction set must never be linked into another's rows.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include "core/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "core/cpu/simd_avx2.h"
#else
#include "core/cpu/simd_cpu.h"
#endif

#define FASTCONV_JOIN2(a, b) a##_##b
#define FASTCONV_JOIN(a, b) FASTCONV_JOIN2(a, b)
/// `conv_fprop_direct_nhwc` becomes the row's name, `conv_fprop_direct_nhwc_avx512` say.
#define FASTCONV_NAME(stem) FASTCONV_JOIN(stem, FASTCONV_ISA)
#define FASTCONV_INLINE inline __attribute__((always_inline))

namespace fastconv {
namespace {

constexpr int kLanes = Vec::kLanes;

FASTCONV_INLINE Vec operator+(Vec a, Vec b) { return add(a, b); }
FASTCONV_INLINE Vec operator-(Vec a, Vec b) { return sub(a, b); }
FASTCONV_INLINE Vec operator*(Vec a, Vec b) { return mul(a, b); }

/// e^x to about one unit in the last place, for x in [-87, 88]; saturated outside; NaN stays NaN.
///
/// x = n ln2 + r with |r| <= ln2 / 2; a polynomial of degree 6 gives e^r, the exponent field 2^n.
FASTCONV_INLINE Vec exp(Vec x) {
  x = max(broadcast(-87.0f), min(broadcast(88.0f), x));
  const Vec n = round(x * broadcast(1.44269504f));
  Vec r = fma(n, broadcast(-0.693359375f), x);
  r = fma(n, broadcast(2.12194440e-4f), r);
  Vec e = broadcast(1.0f / 720);
  e = fma(e, r, broadcast(1.0f / 120));
  e = fma(e, r, broadcast(1.0f / 24));
  e = fma(e, r, broadcast(1.0f / 6));
  e = fma(e, r, broadcast(0.5f));
  e = fma(e, r, broadcast(1.0f));
  e = fma(e, r, broadcast(1.0f));
  return scale_by_power_of_two(e, n);
}

FASTCONV_INLINE Vec sigmoid(Vec x) { return div(broadcast(1.0f), broadcast(1.0f) + exp(zero() - x)); }

/// Lanes in groups of `group`, which divides their number: each lane takes its own group's first. `next` takes one on.
FASTCONV_INLINE LaneIndex first_of_group(int64_t group) {
  int32_t lanes[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = static_cast<int32_t>(lane / group * group);
  return lane_index(lanes);
}

/// The same pointer, whose memory the compiler must read anew: it would else move loads out of a loop, then spill them.
template <class T>
FASTCONV_INLINE T* reload(T* p) {
  asm("" : "+r"(p));
  return p;
}

constexpr int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t divide_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

}  // namespace
}  // namespace fastconv
