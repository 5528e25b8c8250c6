// float16 and bfloat16 as bits, and the way to double and back, rounding to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace fastconv {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

FASTCONV_HOST_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
FASTCONV_HOST_DEVICE float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

FASTCONV_HOST_DEVICE float to_float(float x) { return x; }
FASTCONV_HOST_DEVICE float to_float(BFloat16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
FASTCONV_HOST_DEVICE float to_float(Float16 x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  if (exponent == 31) return float_of(sign | 0x7f800000 | fraction << 13);
  if (exponent) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
#endif
}

FASTCONV_HOST_DEVICE void from_float(float x, float* out) { *out = x; }
FASTCONV_HOST_DEVICE void from_float(float x, BFloat16* out) {
#if defined(__CUDA_ARCH__)
  out->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffff) > 0x7f800000) out->bits = static_cast<uint16_t>(bits >> 16 | 64);
  else out->bits = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}
FASTCONV_HOST_DEVICE void from_float(float x, Float16* out) {
#if defined(__CUDA_ARCH__)
  out->bits = __half_as_ushort(__float2half_rn(x));
#else
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) half = 0x7e00;
  else if (magnitude >= 0x477ff000) half = 0x7c00;  // 65520 and above round to infinity
  else if (magnitude >= 0x38800000) half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  else half = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;  // adding 0.5 rounds at 2^-24, the subnormal step
  out->bits = static_cast<uint16_t>(sign | half);
#endif
}

}  // namespace fastconv
