// Addresses in shared memory, checked as the instructions that take them want.
#pragma once

#include <cstdint>
#include <string>

#include "core/cuda_on_cpu/scheduler.h"

namespace fastconv::cuda_on_cpu {

inline bool aligned(const void* address, size_t to) { return reinterpret_cast<uintptr_t>(address) % to == 0; }

/// Whether all of [address, address + bytes) is shared memory of `block`.
inline bool in_shared(const Block& block, const void* address, size_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(address), begin = reinterpret_cast<uintptr_t>(block.shared);
  return at >= begin && at + bytes <= begin + block.shared_bytes;
}

/// Ends the run unless `bytes` of the block's own shared memory lie at `address`, aligned to `alignment`.
inline void check_shared(const void* address, size_t bytes, size_t alignment, const Where& where) {
  const Block& block = *current().block;
  if (!in_shared(block, address, bytes))
    fail(std::to_string(bytes) + " bytes at " + std::to_string(static_cast<const char*>(address) - block.shared) +
             " outside the " + std::to_string(block.shared_bytes) + " bytes of shared memory",
         where);
  if (!aligned(address, alignment))
    fail("an address in shared memory not aligned to " + std::to_string(alignment), where);
}

}  // namespace fastconv::cuda_on_cpu
