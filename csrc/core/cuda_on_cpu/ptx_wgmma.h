// Twins of core/cuda/ptx_wgmma.h. A product is done at a random moment after all threads of the warpgroup have asked
// for it, in their order; d is NaN until the wait for its group. A missing wgmma_fence is an error.
#pragma once

#include <type_traits>

#include "core/cuda_on_cpu/device.h"
#include "core/cuda_on_cpu/shared.h"

namespace fastconv::cuda_on_cpu {

/// One product as a thread asks for it. `a_registers` is null where a is in shared memory.
struct WgmmaCall {
  float* d;
  int n;
  bool bfloat16, accumulate, a_mn_major, b_mn_major;
  const uint32_t* a_registers;
  uint64_t a, b;
};

void wgmma(const WgmmaCall& call, const Where& where);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(size_t pending, const Where& where);
uint64_t wgmma_address_bits(const void* shared, const Where& where);

}  // namespace fastconv::cuda_on_cpu

namespace fastconv::ptx {

inline uint64_t wgmma_operand(const void* shared, unsigned leading_bytes, unsigned stride_bytes, Swizzle swizzle,
                              const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return cuda_on_cpu::wgmma_address_bits(shared, {"wgmma_operand", file, line}) | uint64_t{leading_bytes >> 4} << 16 |
         uint64_t{stride_bytes >> 4} << 32 | swizzle_bits(swizzle);
}

inline void wgmma_fence() { cuda_on_cpu::wgmma_fence(); }
inline void wgmma_commit() { cuda_on_cpu::wgmma_commit(); }
template <int kPending>
void wgmma_wait(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wgmma_wait(kPending, {"wgmma_wait", file, line});
}
template <int kCount>
void wgmma_keep_order(float (&)[kCount]) {}

template <int kN>
constexpr bool kHasWgmma =
    kN == 8 || kN == 16 || kN == 32 || kN == 64 || kN == 96 || kN == 128 || kN == 192 || kN == 256;

template <class T, int kN, Major kMajorA = Major::kK, Major kMajorB = Major::kK>
void wgmma_m64k16(float (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  static_assert(kHasWgmma<kN> && (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>));
  cuda_on_cpu::wgmma(
      {d, kN, std::is_same_v<T, BFloat16>, accumulate, kMajorA == Major::kMN, kMajorB == Major::kMN, nullptr, a, b},
      {"wgmma_m64k16", file, line});
}
template <class T, int kN, Major kMajorB = Major::kK>
void wgmma_m64k16(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate,
                  const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(kHasWgmma<kN> && (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>));
  cuda_on_cpu::wgmma({d, kN, std::is_same_v<T, BFloat16>, accumulate, false, kMajorB == Major::kMN, a, 0, b},
                     {"wgmma_m64k16", file, line});
}

}  // namespace fastconv::ptx
