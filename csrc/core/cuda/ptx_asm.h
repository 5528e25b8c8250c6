// What the parts of ptx.h share when nvcc compiles them.
#pragma once

#include <cstdint>

#include "core/cuda/device.h"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
/// An instruction of sm_90 and later. For an older target the kernel compiles all the same, and stops if it gets here.
#define FASTCONV_ASM_SM90(...) asm volatile(__VA_ARGS__)
#else
#define FASTCONV_ASM_SM90(...) __trap()
#endif

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
/// An instruction that only sm_90a has.
#define FASTCONV_ASM_SM90A(...) asm volatile(__VA_ARGS__)
#else
#define FASTCONV_ASM_SM90A(...) __trap()
#endif

namespace fastconv::ptx {

/// The address in the block's own shared memory that instructions take.
__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

}  // namespace fastconv::ptx
