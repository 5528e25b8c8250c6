// The names of core/cuda/ptx_max.h for the host compiler, by the PTX ISA's definitions.
#pragma once

#include <type_traits>

#include "core/half.h"

namespace fastconv::ptx {

template <class T>
uint32_t max2_nan(uint32_t a, uint32_t b) {
  static_assert(std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>);
  uint32_t result = 0;
  for (int shift : {0, 16}) {
    const T x{static_cast<uint16_t>(a >> shift)}, y{static_cast<uint16_t>(b >> shift)};
    const float u = to_float(x), v = to_float(y);
    uint32_t larger = u > v || (u == v && !(x.bits & 0x8000)) ? x.bits : y.bits;
    if (u != u || v != v) larger = 0x7fff;
    result |= larger << shift;
  }
  return result;
}

}  // namespace fastconv::ptx
