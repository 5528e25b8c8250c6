// A fingerprint of memory: 128 bits by which a changed weight is told from an unchanged one.
#pragma once

#include <cstdint>

namespace fastconv {

struct Fingerprint {
  uint64_t low = 0, high = 0;
  bool operator==(const Fingerprint&) const = default;
};

/// Of `bytes` bytes in their order. Two contents that differ agree with a probability of about 2^-62 where the change
/// lies in one vector lane alone, and of 2^-128 where it is spread. Good inside one process: it differs between
/// instruction sets. Large memory is read by all threads.
Fingerprint fingerprint(const void* data, int64_t bytes);

// What follows is between fingerprint.cc and fingerprint_simd.cc.

constexpr int64_t kFingerprintBlock = 2048;  // bytes that share the keys, each at its own place
constexpr int kFingerprintState = 16;        // words that a chunk is summed up in

/// Adds `bytes` bytes to the state, which is all zero before the first.
using AddToFingerprint = void (*)(const uint32_t* keys, const char* data, int64_t bytes, uint64_t* state);
void add_to_fingerprint_cpu(const uint32_t* keys, const char* data, int64_t bytes, uint64_t* state);
void add_to_fingerprint_avx2(const uint32_t* keys, const char* data, int64_t bytes, uint64_t* state);
void add_to_fingerprint_avx512(const uint32_t* keys, const char* data, int64_t bytes, uint64_t* state);

}  // namespace fastconv
