// The CUDA language as kernels use it: by nvcc for a GPU, or by the host compiler for core/cuda_on_cpu.
//
// Shared memory is dynamic only: `shared_memory<T>()`, sized at the launch, so that the same source has it on both.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "core/cuda_on_cpu/device.h"
#endif

#include <cstddef>

#include "core/host_device.h"

namespace fastconv {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

/// Whether `blocks` blocks, each with so much shared memory, fit on a multiprocessor of compute capability 8.0, which
/// has 164 KiB and takes one of each block's for itself. Those of 9.0 have more, of 8.6 and 8.9 less.
constexpr bool blocks_fit(size_t shared_bytes, int blocks) { return blocks * (shared_bytes + 1024) <= 164 * 1024; }

/// The block's shared memory as `T`, aligned to 1024 bytes. NaN until written, on the CPU; anything, on a GPU.
template <class T>
__device__ __forceinline__ T& shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ __align__(1024) unsigned char memory[];
  return *reinterpret_cast<T*>(memory);
#else
  return *reinterpret_cast<T*>(cuda_on_cpu::current().block->shared);
#endif
}

}  // namespace fastconv
