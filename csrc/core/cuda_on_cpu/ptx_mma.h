// Twins of core/cuda/ptx_mma.h: the sums run over k in order, each product added in float (double for float64).
#pragma once

#include <type_traits>

#include "core/cuda_on_cpu/device.h"
#include "core/half.h"

namespace fastconv::cuda_on_cpu {

enum class MmaKind { kBFloat16, kFloat16, kTF32 };

/// m16n8k16, or m16n8k8 for TF32.
void mma(MmaKind kind, float* d, const uint32_t* a, const uint32_t* b, const Where& where);
void mma_f64(double* d, double a, double b, const Where& where);

}  // namespace fastconv::cuda_on_cpu

namespace fastconv::ptx {

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  static_assert(std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>);
  using cuda_on_cpu::MmaKind;
  const MmaKind kind = std::is_same_v<T, BFloat16> ? MmaKind::kBFloat16 : MmaKind::kFloat16;
  cuda_on_cpu::mma(kind, d, a, b, {"mma_m16n8k16", file, line});
}

inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::mma(cuda_on_cpu::MmaKind::kTF32, d, a, b, {"mma_m16n8k8_tf32", file, line});
}

inline void mma_m8n8k4_f64(double (&d)[2], double a, double b, const char* file = __builtin_FILE(),
                           int line = __builtin_LINE()) {
  cuda_on_cpu::mma_f64(d, a, b, {"mma_m8n8k4_f64", file, line});
}

inline uint32_t to_tf32(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fffffff;
  return (bits + 0x1000) & ~0x1fffu;
}

template <class T>
uint32_t pack2(float low, float high) {
  static_assert(std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>);
  T l, h;
  from_float(low, &l), from_float(high, &h);
  return static_cast<uint32_t>(h.bits) << 16 | l.bits;
}

}  // namespace fastconv::ptx
