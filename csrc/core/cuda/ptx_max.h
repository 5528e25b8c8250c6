// Maxima of two elements at once (sm_80), beside ptx.h: windows take them, products do not.
#pragma once

#include "core/cuda/device.h"
#include "core/half.h"

#if !defined(__CUDACC__)
#include "core/cuda_on_cpu/ptx_max.h"
#else
#include <type_traits>

namespace fastconv::ptx {

/// Of two registers of two elements, in each half the larger; NaN where one of the two is; 0 of 0 and -0.
template <class T>
__device__ __forceinline__ uint32_t max2_nan(uint32_t a, uint32_t b) {
  static_assert(std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>);
  uint32_t largest;
  if constexpr (std::is_same_v<T, BFloat16>) asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(largest) : "r"(a), "r"(b));
  else asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(largest) : "r"(a), "r"(b));
  return largest;
}

}  // namespace fastconv::ptx
#endif
