// Rows of an image by vectors: how they cover it, and are taken apart by every second place and put together again.
#pragma once

#include <utility>

#include "core/cpu/simd.h"

namespace fastconv {
namespace {

using Lanes = std::make_integer_sequence<int, kLanes>;

/// The lanes of two vectors, taken in turn from the even ones or the odd ones.
template <int kFirst, class V, int... kLane>
FASTCONV_INLINE V every_second(V a, V b, std::integer_sequence<int, kLane...>) {
  // By halves, then the quarters in order: two instructions, where the compiler would take three.
  if constexpr (sizeof...(kLane) == 8) {
    const V quarters = __builtin_shufflevector(a, b, kFirst, kFirst + 2, kFirst + 8, kFirst + 10, kFirst + 4,
                                               kFirst + 6, kFirst + 12, kFirst + 14);
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

/// Calls `body(begin, n)` for vectors that cover [0, count): the last overlaps the one before, or is all there is.
template <class Body>
FASTCONV_INLINE void cover(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, kLanes);
  if (i < count) body(most(count - kLanes, 0), least(count, kLanes));
}

}  // namespace
}  // namespace fastconv
