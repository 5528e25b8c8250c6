// The CUDA language as kernels use it: by nvcc for a GPU, or by the host compiler for core/cuda_on_cpu.
//
// Shared memory is dynamic only: `shared_memory<T>()`, sized at the launch, so that the same source has it on both.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "core/cuda_on_cpu/device.h"
#endif

#include "core/host_device.h"

namespace fastconv {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

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
