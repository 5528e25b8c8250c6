// Vec for AVX2 with FMA: 8 floats. Included by simd.h alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fastconv {
namespace {

struct Vec {
  static constexpr int kLanes = 8;
  static constexpr int kRegisters = 16;
  __m256 v;
};

inline __m256i first(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Vec zero() { return {_mm256_setzero_ps()}; }
inline Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
/// The first n lanes of memory, zero in the rest, which are not read.
inline Vec load(const float* p, int64_t n) { return {_mm256_maskload_ps(p, first(n))}; }
/// The same value, which the compiler must hold in a register: it would else read memory again at every use.
inline Vec in_register(Vec a) {
  asm("" : "+x"(a.v));
  return a;
}
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
inline void store(float* p, Vec a, int64_t n) { _mm256_maskstore_ps(p, first(n), a.v); }
/// Past the caches, for outputs larger than they are. `p` is aligned to the vector; `flush_streams` ends a thread's.
inline void stream(float* p, Vec a) { _mm256_stream_ps(p, a.v); }
inline void flush_streams() { _mm_sfence(); }
inline Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec sub(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec mul(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec div(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
/// a * b + c
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
/// c - a * b
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
/// The larger; b where either is NaN. So max(zero(), x) keeps a NaN of x.
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
/// `a`, but NaN where b or c is.
inline Vec nan_of(Vec a, Vec b, Vec c) { return {_mm256_or_ps(a.v, _mm256_cmp_ps(b.v, c.v, _CMP_UNORD_Q))}; }
inline Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec scale_by_power_of_two(Vec a, Vec n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23);
  return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(exponent))};
}

/// Whether no lane is infinite or NaN.
inline bool all_finite(Vec a) {
  const __m256 zero_or_nan = _mm256_sub_ps(a.v, a.v);
  return _mm256_movemask_ps(_mm256_cmp_ps(zero_or_nan, zero_or_nan, _CMP_UNORD_Q)) == 0;
}

/// rows[i] lane j becomes rows[j] lane i: pairs of floats, then of doubles, then of halves.
inline void transpose(Vec (&rows)[8]) {
  __m256 a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      b[i + 2 * half] = _mm256_shuffle_ps(a[i + half], a[i + 2 + half], 0x44);
      b[i + 2 * half + 1] = _mm256_shuffle_ps(a[i + half], a[i + 2 + half], 0xee);
    }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    rows[j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
    rows[4 + j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
  }
}

/// For each lane, the lane that `permute` takes.
struct LaneIndex {
  __m256i v;
};
inline LaneIndex lane_index(const int32_t* lanes) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes))};
}
inline LaneIndex next(LaneIndex i) { return {_mm256_add_epi32(i.v, _mm256_set1_epi32(1))}; }
inline Vec permute(Vec a, LaneIndex i) { return {_mm256_permutevar8x32_ps(a.v, i.v)}; }

}  // namespace
}  // namespace fastconv
