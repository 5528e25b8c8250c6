// Sums over the threads of a warp or a block, always in the same order.
#pragma once

#include "core/cuda/device.h"

namespace fastconv {

/// The sum over the lanes of a warp, in every lane: pairs that are 16 apart first, then 8, 4, 2, 1. Or over each
/// kWidth neighbours, a power of 2. All lanes of the warp call it.
template <int kWidth = kWarpSize, class A>
__device__ __forceinline__ A warp_sum(A value) {
#pragma unroll
  for (int apart = kWidth / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(kAllLanes, value, apart);
  return value;
}

/// The sum over a block of whole warps along x, valid in thread 0: warps first, then their sums in order. `memory`
/// holds one value a warp. All threads call it; a second call with the same memory needs a barrier between.
template <class A>
__device__ __forceinline__ A block_sum(A value, A* memory) {
  value = warp_sum(value);
  if (threadIdx.x % kWarpSize == 0) memory[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  if (threadIdx.x == 0)
    for (unsigned warp = 1; warp < blockDim.x / kWarpSize; ++warp) value += memory[warp];
  return value;
}

}  // namespace fastconv
