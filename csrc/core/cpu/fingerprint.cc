#include "core/cpu/fingerprint.h"

#include <algorithm>
#include <vector>

#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

/// Chunks have a state each, so that threads can take them; their size is fixed, so that the threads' number changes
/// nothing.
constexpr int64_t kChunk = int64_t{256} << 10;
constexpr int64_t kParallel = int64_t{1} << 20;  // from here on a parallel region costs less than it saves
constexpr int64_t kFewChunks = kParallel / kChunk;

uint64_t scatter(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

struct Keys {
  alignas(64) uint32_t words[kFingerprintBlock / sizeof(uint32_t)];
  Keys() {
    uint64_t seed = 0;
    for (uint32_t& word : words) word = static_cast<uint32_t>(scatter(seed += 0x9E3779B97F4A7C15u));
  }
};

AddToFingerprint best_way() {
#if defined(__x86_64__)
  if (best_target().level >= target::avx512.level) return add_to_fingerprint_avx512;
  if (best_target().level >= target::avx2.level) return add_to_fingerprint_avx2;
#endif
  return add_to_fingerprint_cpu;
}

struct Chunk {
  uint64_t state[kFingerprintState] = {};
};

/// Each step is a bijection of the fingerprint so far, so that no state is lost on the way.
void join(Fingerprint* f, const Chunk& chunk) {
  for (const uint64_t word : chunk.state) {
    f->low = (f->low ^ word) * 0x9E3779B97F4A7C15u;
    f->low ^= f->low >> 32;
    f->high = (f->high + word) * 0xD6E8FEB86659FD93u;
    f->high ^= f->high >> 29;
  }
}

}  // namespace

Fingerprint fingerprint(const void* data, int64_t bytes) {
  static const Keys keys;
  static const AddToFingerprint add = best_way();
  const int64_t chunks = (bytes + kChunk - 1) / kChunk;
  const auto take = [&](int64_t i, Chunk* chunk) {
    const int64_t begin = i * kChunk;
    add(keys.words, static_cast<const char*>(data) + begin, std::min(kChunk, bytes - begin), chunk->state);
  };
  Fingerprint result;
  if (chunks <= kFewChunks) {
    for (int64_t i = 0; i < chunks; ++i) {
      Chunk chunk;
      take(i, &chunk);
      join(&result, chunk);
    }
  } else {
    std::vector<Chunk> all(static_cast<size_t>(chunks));
    const int64_t tasks = std::min<int64_t>(num_threads(), chunks);
    parallel_for(tasks, [&](int64_t task) {
      const Range mine = part_of(chunks, tasks, task);
      for (int64_t i = mine.begin; i < mine.end; ++i) take(i, &all[static_cast<size_t>(i)]);
    });
    for (const Chunk& chunk : all) join(&result, chunk);
  }
  result.low = scatter(result.low ^ static_cast<uint64_t>(bytes));
  result.high = scatter(result.high ^ result.low);
  return result;
}

}  // namespace fastconv
