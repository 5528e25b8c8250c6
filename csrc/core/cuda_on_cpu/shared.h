// Shared memory as instructions take it: addresses, checked, and what bulk copies and wgmma see of it.
#pragma once

#include <cstdint>
#include <cstring>
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

/// The block's shared memory as bulk copies and wgmma (PTX's async proxy) see it: what threads wrote is not there
/// before a fence_proxy_async after it. A fence shows what all threads wrote, where a GPU's shows its own thread's.
inline char* async_view(Block& block) {
  if (block.async_view.empty()) block.async_view.assign(block.shared_bytes, '\xff');
  return block.async_view.data();
}

/// What a bulk copy brings: `bytes` from `from`, or zeros. Threads see it too.
inline void land_in_shared(Block& block, size_t offset, const char* from, size_t bytes) {
  for (char* memory : {block.shared, async_view(block)}) {
    if (from) std::memcpy(memory + offset, from, bytes);
    else std::memset(memory + offset, 0, bytes);
  }
}
/// The same bytes from when the copy begins until they land.
inline void poison_shared(Block& block, size_t offset, size_t bytes) {
  for (char* memory : {block.shared, async_view(block)}) std::memset(memory + offset, 0xff, bytes);
}

}  // namespace fastconv::cuda_on_cpu
