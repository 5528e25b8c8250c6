// Vec for AVX-512: 16 floats. Included by simd.h alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fastconv {
namespace {

struct Vec {
  static constexpr int kLanes = 16;
  static constexpr int kRegisters = 32;
  __m512 v;
};

inline __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

inline Vec zero() { return {_mm512_setzero_ps()}; }
inline Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
/// The first n lanes of memory, zero in the rest, which are not read.
inline Vec load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
/// The same value, which the compiler must hold in a register: it would else read memory again at every use.
inline Vec in_register(Vec a) {
  asm("" : "+v"(a.v));
  return a;
}
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
inline void store(float* p, Vec a, int64_t n) { _mm512_mask_storeu_ps(p, first(n), a.v); }
inline Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
/// a * b + c
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
/// c - a * b
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
/// The larger; b where either is NaN. So max(zero(), x) keeps a NaN of x.
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec scale_by_power_of_two(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }

/// For each lane, the lane that `permute` takes.
struct LaneIndex {
  __m512i v;
};
inline LaneIndex lane_index(const int32_t* lanes) { return {_mm512_loadu_si512(lanes)}; }
inline LaneIndex next(LaneIndex i) { return {_mm512_add_epi32(i.v, _mm512_set1_epi32(1))}; }
inline Vec permute(Vec a, LaneIndex i) { return {_mm512_permutexvar_ps(i.v, a.v)}; }

}  // namespace
}  // namespace fastconv
