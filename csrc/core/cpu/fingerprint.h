// A fingerprint of memory: 128 bits by which a changed weight is told from an unchanged one.
#pragma once

#include <cstdint>

namespace fastconv {

struct Fingerprint {
  uint64_t low = 0, high = 0;
  bool operator==(const Fingerprint&) const = default;
};

/// Of `bytes` bytes in their order. Two contents of one length that differ in one word of 8 bytes never agree, others
/// with a probability of about 2^-128. Good inside one process: it differs between instruction sets. As fast as memory
/// is read; large memory is read by all threads.
Fingerprint fingerprint(const void* data, int64_t bytes);

}  // namespace fastconv
