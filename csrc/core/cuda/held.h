// Elements between their load and their use.
#pragma once

#include <type_traits>

#include "core/cuda/number.h"
#include "core/cuda/vector.h"

namespace fastconv {

/// kLanes elements as a kernel holds them until it computes: two 16-bit elements are one word, which a load under a
/// condition writes as a whole. (Taken apart, each load would wait for the one before.)
template <class T, int kLanes>
constexpr bool kInWords = sizeof(T) == 2 && kLanes % 2 == 0;
template <class T, int kLanes>
using Held =
    std::conditional_t<kInWords<T, kLanes>, Pack<uint32_t, kInWords<T, kLanes> ? kLanes / 2 : 1>, Pack<T, kLanes>>;

/// kLanes elements at from[offset], or zeros: nothing is read outside.
template <int kLanes, class T>
__device__ __forceinline__ Held<T, kLanes> load_inside(const T* __restrict__ from, int64_t offset, bool inside) {
  return inside ? load_as<Held<T, kLanes>>(from + offset) : Held<T, kLanes>{};
}

/// `widen` of every lane. Two bfloat16 are taken from a word by a shift and a mask: one instruction each.
template <class T, int kLanes>
__device__ __forceinline__ void widen_held(const Held<T, kLanes>& held, Accumulator<T> (&out)[kLanes]) {
  if constexpr (kInWords<T, kLanes>) {
#pragma unroll
    for (int lane = 0; lane < kLanes; lane += 2) {
      const uint32_t word = held.at[lane / 2];
      if constexpr (std::is_same_v<T, BFloat16>) {
        out[lane] = float_of(word << 16), out[lane + 1] = float_of(word & 0xffff0000u);
      } else {
        out[lane] = widen(T{static_cast<uint16_t>(word)});
        out[lane + 1] = widen(T{static_cast<uint16_t>(word >> 16)});
      }
    }
  } else {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = widen(held.at[lane]);
  }
}

}  // namespace fastconv
