// Vec from and to 16-bit floats in memory: float32 in registers, rounded to nearest even when it is stored.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/cpu/simd.h"
#include "core/half.h"

namespace fastconv {
namespace {

typedef uint16_t Halves __attribute__((vector_size(sizeof(Vec) / 2)));
typedef uint32_t Words __attribute__((vector_size(sizeof(Vec))));
typedef float Floats __attribute__((vector_size(sizeof(Vec))));

FASTCONV_INLINE Vec widened(Halves bits, BFloat16) {
  return {reinterpret_cast<Floats>(__builtin_convertvector(bits, Words) << 16)};
}
FASTCONV_INLINE Halves narrowed(Vec a, BFloat16) {
  const Words bits = reinterpret_cast<Words>(a.v);
  const Words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, nan = bits >> 16 | 64;
  return __builtin_convertvector(reinterpret_cast<Words>((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded), Halves);
}

#if defined(__AVX512F__)
FASTCONV_INLINE Vec widened(Halves bits, Float16) { return {_mm512_cvtph_ps(reinterpret_cast<__m256i>(bits))}; }
FASTCONV_INLINE Halves narrowed(Vec a, Float16) {
  return reinterpret_cast<Halves>(_mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
FASTCONV_INLINE Vec widened(Halves bits, Float16) { return {_mm256_cvtph_ps(reinterpret_cast<__m128i>(bits))}; }
FASTCONV_INLINE Halves narrowed(Vec a, Float16) {
  return reinterpret_cast<Halves>(_mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
#else
__attribute__((noinline)) Vec widened(Halves bits, Float16) {
  Vec a;
  for (int i = 0; i < kLanes; ++i) a.v[i] = to_float(Float16{bits[i]});
  return a;
}
__attribute__((noinline)) Halves narrowed(Vec a, Float16) {
  Halves bits;
  for (int i = 0; i < kLanes; ++i) {
    Float16 one;
    from_float(a.v[i], &one);
    bits[i] = one.bits;
  }
  return bits;
}
#endif

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

template <class T>
  requires kIsHalf<T>
FASTCONV_INLINE Vec load(const T* p) {
  Halves bits;
  std::memcpy(&bits, p, sizeof(bits));
  return widened(bits, T{});
}
/// The first n lanes of memory, zero in the rest, which are not read. Out of line as the store below: it goes by single
/// lanes.
template <class T>
  requires kIsHalf<T>
__attribute__((noinline)) Vec load(const T* p, int64_t n) {
  Halves bits = {};
  for (int64_t i = 0; i < n; ++i) bits[i] = p[i].bits;
  return widened(bits, T{});
}
template <class T>
  requires kIsHalf<T>
FASTCONV_INLINE void store(T* p, Vec a) {
  const Halves bits = narrowed(a, T{});
  std::memcpy(p, &bits, sizeof(bits));
}
template <class T>
  requires kIsHalf<T>
__attribute__((noinline)) void store(T* p, Vec a, int64_t n) {
  const Halves bits = narrowed(a, T{});
  for (int64_t i = 0; i < n; ++i) p[i].bits = bits[i];
}

}  // namespace
}  // namespace fastconv
