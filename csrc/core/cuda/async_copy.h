// Copies from global to shared memory that run beside the thread that began them, past its registers (cp.async).
#pragma once

#include "core/cuda/device.h"

#if defined(__CUDACC__)
#include <cuda_pipeline_primitives.h>
#endif

namespace fastconv {

/// Begins to copy 16 bytes; both addresses are multiples of 16.
__device__ __forceinline__ void copy_async_16(void* to_shared, const void* from_global) {
#if defined(__CUDACC__)
  __pipeline_memcpy_async(to_shared, from_global, 16);
#else
  cuda_on_cpu::current().open_group.push_back({to_shared, from_global, 16, 0});
#endif
}

/// Makes one group of all copies that this thread began since the last call.
__device__ __forceinline__ void commit_async_copies() {
#if defined(__CUDACC__)
  __pipeline_commit();
#else
  cuda_on_cpu::Thread& self = cuda_on_cpu::current();
  self.groups.push_back(std::move(self.open_group));
  self.open_group.clear();
#endif
}

/// Waits until no more than the latest `kLeft` groups of this thread are under way. Others see the bytes after a
/// barrier.
template <int kLeft>
__device__ __forceinline__ void wait_async_copies() {
#if defined(__CUDACC__)
  __pipeline_wait_prior(kLeft);
#else
  auto& groups = cuda_on_cpu::current().groups;
  while (groups.size() > kLeft) {
    for (const cuda_on_cpu::PendingCopy& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    groups.erase(groups.begin());
  }
#endif
}

}  // namespace fastconv
