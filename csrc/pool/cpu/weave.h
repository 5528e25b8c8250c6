// Vectors of a row of an image taken apart into those of every second place, and put together again.
#pragma once

#include <utility>

#include "core/cpu/simd.h"

namespace fastconv {
namespace {

/// The lanes of two vectors, taken in turn from the even ones or the odd ones.
template <int kFirst, class V, int... kLane>
FASTCONV_INLINE V every_second(V a, V b, std::integer_sequence<int, kLane...>) {
  // By halves, then the quarters in order: two instructions, where the compiler would take three.
  if constexpr (sizeof...(kLane) == 8) {
    const V quarters = __builtin_shufflevector(a, b, kFirst, kFirst + 2, kFirst + 8, kFirst + 10, kFirst + 4, kFirst + 6,
                                               kFirst + 12, kFirst + 14);
    return __builtin_shufflevector(quarters, quarters, 0, 1, 4, 5, 2, 3, 6, 7);
  } else {
    return __builtin_shufflevector(a, b, (2 * kLane + kFirst)...);
  }
}
/// The lanes of the first or second halves of two vectors in turn.
template <int kFirst, class V, int... kLane>
FASTCONV_INLINE V in_turn(V a, V b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, (kFirst + kLane / 2 + kLane % 2 * static_cast<int>(sizeof...(kLane)))...);
}
using Lanes = std::make_integer_sequence<int, kLanes>;

}  // namespace
}  // namespace fastconv
