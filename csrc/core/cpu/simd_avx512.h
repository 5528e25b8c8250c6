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
/// Past the caches, for outputs larger than they are. `p` is aligned to the vector; `flush_streams` ends a thread's.
inline void stream(float* p, Vec a) { _mm512_stream_ps(p, a.v); }
inline void flush_streams() { _mm_sfence(); }
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
/// `a`, but NaN where b or c is.
inline Vec nan_of(Vec a, Vec b, Vec c) {
  return {_mm512_mask_add_ps(a.v, _mm512_cmp_ps_mask(b.v, c.v, _CMP_UNORD_Q), b.v, c.v)};
}
inline Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec scale_by_power_of_two(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }

/// Whether no lane is infinite or NaN.
inline bool all_finite(Vec a) {
  const __m512 zero_or_nan = _mm512_sub_ps(a.v, a.v);
  return _mm512_cmp_ps_mask(zero_or_nan, zero_or_nan, _CMP_UNORD_Q) == 0;
}

/// rows[i] lane j becomes rows[j] lane i: pairs of floats, then of doubles, then of quarters.
inline void transpose(Vec (&rows)[16]) {
  __m512 a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4)  // b[i + j] holds column j of each quarter, from rows i to i + 3
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m512d low = _mm512_castps_pd(a[i + half]), high = _mm512_castps_pd(a[i + 2 + half]);
      b[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      b[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 even = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88), odd = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
    const __m512 even2 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
    const __m512 odd2 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
    rows[j].v = _mm512_shuffle_f32x4(even, even2, 0x88);
    rows[4 + j].v = _mm512_shuffle_f32x4(odd, odd2, 0x88);
    rows[8 + j].v = _mm512_shuffle_f32x4(even, even2, 0xdd);
    rows[12 + j].v = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
  }
}

/// For each lane, the lane that `permute` takes.
struct LaneIndex {
  __m512i v;
};
inline LaneIndex lane_index(const int32_t* lanes) { return {_mm512_loadu_si512(lanes)}; }
inline LaneIndex next(LaneIndex i) { return {_mm512_add_epi32(i.v, _mm512_set1_epi32(1))}; }
inline Vec permute(Vec a, LaneIndex i) { return {_mm512_permutexvar_ps(i.v, a.v)}; }

}  // namespace
}  // namespace fastconv
