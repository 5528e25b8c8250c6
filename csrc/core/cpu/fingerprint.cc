// Lanes take a block each in turn: lane = permutation(lane) ^ block. So a change stays in its lane whatever follows,
// and the lanes meet in the same way. The permutation is a round of AES, one instruction for 16 bytes, where there is
// one.

#include "core/cpu/fingerprint.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastconv {
namespace {

/// Chunks are independent, so that threads can take them; their size is fixed, so that the threads' number changes
/// nothing.
constexpr int64_t kChunk = int64_t{256} << 10;
constexpr int64_t kParallel = int64_t{1} << 20;  // from here on a parallel region costs less than it saves
constexpr int kLanes = 8;                        // a lane's step waits for its last, and two begin in a cycle

/// A word of the fingerprint of nothing.
constexpr uint64_t begin_of(int word) { return 0x9E3779B97F4A7C15u * static_cast<uint64_t>(2 * word + 1); }

/// A bijection of `x` for any `word`, in which each bit of either reaches all.
uint64_t mix(uint64_t x, uint64_t word) {
  x = (x ^ word) * 0xBF58476D1CE4E5B9u;
  return x ^ (x >> 32);
}

/// What is left of `bytes` from `at` on, padded by zeros to a block of `size` bytes.
template <int kSize>
struct Rest {
  char block[kSize] = {};
  Rest(const char* data, int64_t at, int64_t bytes) {
    std::memcpy(block, data + at, static_cast<size_t>(std::min<int64_t>(kSize, bytes - at)));
  }
};

#if defined(__x86_64__)
__attribute__((target("aes,avx"))) Fingerprint chunk_by_aes(const char* data, int64_t bytes) {
  constexpr int64_t kBlock = 16, kRow = kLanes * kBlock;
  const auto load = [](const char* p) __attribute__((target("aes,avx"), always_inline)) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  };
  __m128i lanes[kLanes];
  for (int i = 0; i < kLanes; ++i)
    lanes[i] = _mm_set_epi64x(static_cast<int64_t>(begin_of(2 * i)), static_cast<int64_t>(begin_of(2 * i + 1)));
  const auto take = [&](const char* row) __attribute__((target("aes,avx"), always_inline)) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes; ++i) lanes[i] = _mm_aesenc_si128(lanes[i], load(row + i * kBlock));
  };
  int64_t at = 0;
  for (; at + kRow <= bytes; at += kRow) take(data + at);
  if (at < bytes) take(Rest<kRow>(data, at, bytes).block);
  __m128i all = lanes[0];
  for (int i = 1; i < kLanes; ++i) all = _mm_aesenc_si128(all, lanes[i]);
  // As many rounds again as carry each bit everywhere.
  for (int i = 0; i < 3; ++i) all = _mm_aesenc_si128(all, _mm_setzero_si128());
  return {static_cast<uint64_t>(_mm_extract_epi64(all, 0)), static_cast<uint64_t>(_mm_extract_epi64(all, 1))};
}
#endif

Fingerprint chunk_by_words(const char* data, int64_t bytes) {
  constexpr int64_t kRow = kLanes * sizeof(uint64_t);
  uint64_t lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = begin_of(i);
  const auto take = [&](const char* row) {
    for (int i = 0; i < kLanes; ++i) {
      uint64_t word;
      std::memcpy(&word, row + i * sizeof(word), sizeof(word));
      lanes[i] = mix(lanes[i], word);
    }
  };
  int64_t at = 0;
  for (; at + kRow <= bytes; at += kRow) take(data + at);
  if (at < bytes) take(Rest<kRow>(data, at, bytes).block);
  Fingerprint all{begin_of(0), begin_of(1)};
  for (const uint64_t lane : lanes) {
    all.low = mix(all.low, lane);
    all.high = mix(all.high, lane + all.low);
  }
  return all;
}

using OfChunk = Fingerprint (*)(const char* data, int64_t bytes);

OfChunk best_way() {
#if defined(__x86_64__)
  if (best_target().level >= target::avx2.level && __builtin_cpu_supports("aes")) return chunk_by_aes;
#endif
  return chunk_by_words;
}

}  // namespace

Fingerprint fingerprint(const void* data, int64_t bytes) {
  static const OfChunk of_chunk = best_way();
  const int64_t chunks = (bytes + kChunk - 1) / kChunk;
  const auto take = [&](int64_t i) {
    const int64_t begin = i * kChunk;
    return of_chunk(static_cast<const char*>(data) + begin, std::min(kChunk, bytes - begin));
  };
  if (chunks == 1) return take(0);
  Fingerprint all{begin_of(0), begin_of(1)};
  const auto join = [&](const Fingerprint& chunk) {
    all.low = mix(all.low, chunk.low);
    all.high = mix(all.high, chunk.high);
  };
  if (bytes < kParallel) {
    for (int64_t i = 0; i < chunks; ++i) join(take(i));
  } else {
    std::vector<Fingerprint> each(static_cast<size_t>(chunks));
    const int64_t tasks = std::min<int64_t>(num_threads(), chunks);
    parallel_for(tasks, [&](int64_t task) {
      const Range mine = part_of(chunks, tasks, task);
      for (int64_t i = mine.begin; i < mine.end; ++i) each[static_cast<size_t>(i)] = take(i);
    });
    for (const Fingerprint& chunk : each) join(chunk);
  }
  return all;
}

}  // namespace fastconv
