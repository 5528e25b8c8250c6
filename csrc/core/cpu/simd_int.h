// Vectors of 32-bit whole numbers, as many as a Vec has floats, and the way from and to narrower and wider ones in
// memory.
#pragma once

#include <cstring>

#include "core/cpu/simd.h"

namespace fastconv {
namespace {

typedef int32_t Ints __attribute__((vector_size(sizeof(Vec))));

/// 0, 1, 2 and so on.
FASTCONV_INLINE Ints lane_numbers() {
  Ints lanes = {};
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes;
}

FASTCONV_INLINE Ints load_ints(const int32_t* p) {
  Ints a;
  std::memcpy(&a, p, sizeof(a));
  return a;
}
FASTCONV_INLINE void store_ints(int32_t* p, Ints a) { std::memcpy(p, &a, sizeof(a)); }

// The compiler's own conversions of vectors go by single lanes here.
#if defined(__AVX512F__)
FASTCONV_INLINE Ints load_ints(const uint8_t* p) {
  return reinterpret_cast<Ints>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
FASTCONV_INLINE Ints load_ints(const int64_t* p) {
  const __m256i low = _mm512_cvtepi64_epi32(_mm512_loadu_si512(p)),
                high = _mm512_cvtepi64_epi32(_mm512_loadu_si512(p + 8));
  return reinterpret_cast<Ints>(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}
FASTCONV_INLINE void store_ints(uint8_t* p, Ints a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(a)));
}
FASTCONV_INLINE void store_ints(int64_t* p, Ints a) {
  const __m512i all = reinterpret_cast<__m512i>(a);
  _mm512_storeu_si512(p, _mm512_cvtepi32_epi64(_mm512_castsi512_si256(all)));
  _mm512_storeu_si512(p + 8, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(all, 1)));
}
#elif defined(__AVX2__)
FASTCONV_INLINE Ints load_ints(const uint8_t* p) {
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
FASTCONV_INLINE Ints load_ints(const int64_t* p) {
  const __m256 low = _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  const __m256 high = _mm256_loadu_ps(reinterpret_cast<const float*>(p + 4));
  const __m256i halves = _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88));  // by 128 bits: 0 1 4 5, 2 3 6 7
  return reinterpret_cast<Ints>(_mm256_permute4x64_epi64(halves, 0xd8));
}
FASTCONV_INLINE void store_ints(uint8_t* p, Ints a) {
  const __m256i all = reinterpret_cast<__m256i>(a);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
FASTCONV_INLINE void store_ints(int64_t* p, Ints a) {
  const __m256i all = reinterpret_cast<__m256i>(a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_cvtepi32_epi64(_mm256_castsi256_si128(all)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 4), _mm256_cvtepi32_epi64(_mm256_extracti128_si256(all, 1)));
}
#else
template <class T>
FASTCONV_INLINE Ints load_ints(const T* p) {
  Ints a;
  for (int i = 0; i < kLanes; ++i) a[i] = static_cast<int32_t>(p[i]);
  return a;
}
template <class T>
FASTCONV_INLINE void store_ints(T* p, Ints a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<T>(a[i]);
}
#endif

/// The first n lanes of memory, zero in the rest, which are not read; by single lanes where they are not all.
template <class T>
__attribute__((noinline)) Ints load_some_ints(const T* p, int64_t n) {
  Ints a = {};
  for (int64_t i = 0; i < n; ++i) a[i] = static_cast<int32_t>(p[i]);
  return a;
}
template <class T>
FASTCONV_INLINE Ints load_ints(const T* p, int64_t n) {
  return n == kLanes ? load_ints(p) : load_some_ints(p, n);
}
template <class T>
__attribute__((noinline)) void store_some_ints(T* p, Ints a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<T>(a[i]);
}
template <class T>
FASTCONV_INLINE void store_ints(T* p, Ints a, int64_t n) {
  if (n == kLanes) store_ints(p, a);
  else store_some_ints(p, a, n);
}

}  // namespace
}  // namespace fastconv
