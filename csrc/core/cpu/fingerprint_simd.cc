// Sums of products of 32-bit words, each with a key added that belongs to its place in the block (the hash family NH,
// twice: a change is missed only where two independent keyed words vanish together). Blocks follow each other in a
// polynomial, so that the order of blocks counts too. Six vector operations for a vector of data.

#include <cstring>

#include "core/cpu/fingerprint.h"
#include "core/cpu/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastconv {
namespace {

#if defined(__AVX512F__)
using Words = __m512i;
FASTCONV_INLINE Words load_words(const void* p) { return _mm512_loadu_si512(p); }
FASTCONV_INLINE void store_words(void* p, Words a) { _mm512_storeu_si512(p, a); }
FASTCONV_INLINE Words add32(Words a, Words b) { return _mm512_add_epi32(a, b); }
FASTCONV_INLINE Words add64(Words a, Words b) { return _mm512_add_epi64(a, b); }
FASTCONV_INLINE Words mul_low(Words a, Words b) { return _mm512_mul_epu32(a, b); }
FASTCONV_INLINE Words exclusive_or(Words a, Words b) { return _mm512_xor_si512(a, b); }
FASTCONV_INLINE Words broadcast64(uint64_t a) { return _mm512_set1_epi64(static_cast<int64_t>(a)); }
template <int kBits>
FASTCONV_INLINE Words right(Words a) {
  return _mm512_srli_epi64(a, kBits);
}
template <int kBits>
FASTCONV_INLINE Words left(Words a) {
  return _mm512_slli_epi64(a, kBits);
}
#elif defined(__AVX2__)
using Words = __m256i;
FASTCONV_INLINE Words load_words(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
FASTCONV_INLINE void store_words(void* p, Words a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a); }
FASTCONV_INLINE Words add32(Words a, Words b) { return _mm256_add_epi32(a, b); }
FASTCONV_INLINE Words add64(Words a, Words b) { return _mm256_add_epi64(a, b); }
FASTCONV_INLINE Words mul_low(Words a, Words b) { return _mm256_mul_epu32(a, b); }
FASTCONV_INLINE Words exclusive_or(Words a, Words b) { return _mm256_xor_si256(a, b); }
FASTCONV_INLINE Words broadcast64(uint64_t a) { return _mm256_set1_epi64x(static_cast<int64_t>(a)); }
template <int kBits>
FASTCONV_INLINE Words right(Words a) {
  return _mm256_srli_epi64(a, kBits);
}
template <int kBits>
FASTCONV_INLINE Words left(Words a) {
  return _mm256_slli_epi64(a, kBits);
}
#elif defined(__SSE2__)
using Words = __m128i;
FASTCONV_INLINE Words load_words(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
FASTCONV_INLINE void store_words(void* p, Words a) { _mm_storeu_si128(static_cast<__m128i*>(p), a); }
FASTCONV_INLINE Words add32(Words a, Words b) { return _mm_add_epi32(a, b); }
FASTCONV_INLINE Words add64(Words a, Words b) { return _mm_add_epi64(a, b); }
FASTCONV_INLINE Words mul_low(Words a, Words b) { return _mm_mul_epu32(a, b); }
FASTCONV_INLINE Words exclusive_or(Words a, Words b) { return _mm_xor_si128(a, b); }
FASTCONV_INLINE Words broadcast64(uint64_t a) { return _mm_set1_epi64x(static_cast<int64_t>(a)); }
template <int kBits>
FASTCONV_INLINE Words right(Words a) {
  return _mm_srli_epi64(a, kBits);
}
template <int kBits>
FASTCONV_INLINE Words left(Words a) {
  return _mm_slli_epi64(a, kBits);
}
#else
using Words = uint64_t __attribute__((vector_size(16)));
using Halves = uint32_t __attribute__((vector_size(16)));
FASTCONV_INLINE Words load_words(const void* p) {
  Words a;
  std::memcpy(&a, p, sizeof(a));
  return a;
}
FASTCONV_INLINE void store_words(void* p, Words a) { std::memcpy(p, &a, sizeof(a)); }
FASTCONV_INLINE Words add32(Words a, Words b) {
  return reinterpret_cast<Words>(reinterpret_cast<Halves>(a) + reinterpret_cast<Halves>(b));
}
FASTCONV_INLINE Words add64(Words a, Words b) { return a + b; }
FASTCONV_INLINE Words broadcast64(uint64_t a) { return Words{a, a}; }
FASTCONV_INLINE Words mul_low(Words a, Words b) {
  const Words low = broadcast64(0xFFFFFFFFu);
  return (a & low) * (b & low);
}
FASTCONV_INLINE Words exclusive_or(Words a, Words b) { return a ^ b; }
template <int kBits>
FASTCONV_INLINE Words right(Words a) {
  return a >> kBits;
}
template <int kBits>
FASTCONV_INLINE Words left(Words a) {
  return a << kBits;
}
#endif

constexpr int64_t kWidth = sizeof(Words), kPair = 2 * kWidth;
static_assert(2 * kWidth / sizeof(uint64_t) <= kFingerprintState);

struct Sums {
  Words first = broadcast64(0), second = broadcast64(0);

  FASTCONV_INLINE void add(const char* data, const char* keys) {
    const Words a = add32(load_words(data), load_words(keys));
    const Words b = add32(load_words(data + kWidth), load_words(keys + kWidth));
    const Words a_high = right<32>(a), b_high = right<32>(b);
    first = add64(first, add64(mul_low(a, a_high), mul_low(b, b_high)));
    second = add64(second, add64(mul_low(a, b_high), mul_low(b, a_high)));
  }
};

/// One step of the polynomial: a bijection of what was, plus what comes.
FASTCONV_INLINE Words step(Words state, Words sum) {
  const Words factor = broadcast64(0x9E3779B1u);
  const Words mixed = exclusive_or(state, right<47>(state));
  return add64(add64(mul_low(mixed, factor), left<32>(mul_low(right<32>(mixed), factor))), sum);
}

}  // namespace

void FASTCONV_NAME(add_to_fingerprint)(const uint32_t* key_words, const char* data, int64_t bytes, uint64_t* state) {
  const char* keys = reinterpret_cast<const char*>(key_words);
  Words first = load_words(state), second = load_words(state + kWidth / sizeof(uint64_t));
  for (int64_t at = 0; at < bytes; at += kFingerprintBlock) {
    const int64_t here = bytes - at < kFingerprintBlock ? bytes - at : kFingerprintBlock;
    Sums sums;
    int64_t i = 0;
    for (; i + kPair <= here; i += kPair) sums.add(data + at + i, keys + i);
    if (i < here) {
      char rest[kPair] = {};
      std::memcpy(rest, data + at + i, static_cast<size_t>(here - i));
      sums.add(rest, keys + i);
    }
    first = step(first, sums.first);
    second = step(second, sums.second);
  }
  store_words(state, first);
  store_words(state + kWidth / sizeof(uint64_t), second);
}

}  // namespace fastconv
