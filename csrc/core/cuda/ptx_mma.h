// Matrix products of a warp, d += a b, and the roundings of their operands (sm_80).
//
// With g = lane / 4 and t = lane % 4, a lane holds
//   m16n8k16    a[0] rows g, columns 2 t and the next; a[1] row g + 8; a[2], a[3] the same at columns + 8
//               b[0] rows (k) 2 t and the next, column (n) g; b[1] rows + 8
//   m16n8k8     a[0] (g, t), a[1] (g + 8, t), a[2] (g, t + 4), a[3] (g + 8, t + 4); b[0] (t, g), b[1] (t + 4, g)
//   both        d[0], d[1] row g, columns 2 t and the next; d[2], d[3] row g + 8
//   m8n8k4      a (g, t); b (t, g); d row g, columns 2 t and the next
// Of two elements in a register, the first is in the low half. All lanes call them.
#pragma once

#include "core/cuda/device.h"
#include "core/half.h"

#if !defined(__CUDACC__)
#include "core/cuda_on_cpu/ptx_mma.h"
#else
#include <type_traits>

#include "core/cuda/ptx_asm.h"

namespace fastconv::ptx {

/// T = BFloat16 or Float16, sums in float.
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static_assert(std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>);
  if constexpr (std::is_same_v<T, BFloat16>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Operands as `to_tf32` makes them: of other floats the lower 13 bits are ignored.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_m8n8k4_f64(double (&d)[2], double a, double b) {
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+d"(d[0]), "+d"(d[1])
               : "d"(a), "d"(b));
}

/// Rounds to 10 bits of fraction, to nearest, ties away from zero. The bits of a float whose lower 13 are zero.
__device__ __forceinline__ uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

/// Two elements, rounded to nearest even, in one register.
template <class T>
__device__ __forceinline__ uint32_t pack2(float low, float high) {
  static_assert(std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>);
  uint32_t bits;
  if constexpr (std::is_same_v<T, BFloat16>) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

}  // namespace fastconv::ptx
#endif
