// The columns of an image's row as a window's taps meet them: column c of the padded image lies in phase c % stride at
// c / stride, so that the outputs of a row read one tap at consecutive places.
#pragma once

#include <utility>

#include "core/cpu/parallel.h"
#include "pool/cpu/reduce.h"
#include "pool/window.h"

namespace fastconv {
namespace {

struct Columns {
  PoolAxis axis;
  int64_t phase_size;  // elements, with room for a vector more

  explicit Columns(const PoolAxis& a) : axis(a) {
    // The last column that a window reaches, or that the image has.
    const int64_t reached = (a.out - 1) * a.stride + (a.taps - 1) * a.dilation, last = a.in - 1 + a.pad;
    phase_size = round_up((reached > last ? reached : last) / a.stride + 1 + 2 * kLanes, kLanes);
  }
  int64_t size() const { return phase_size * axis.stride; }
  /// Where output 0 reads a tap.
  int64_t of_tap(int64_t s) const {
    const int64_t column = s * axis.dilation;
    return column % axis.stride * phase_size + column / axis.stride;
  }
  int64_t of_input(int64_t w) const {
    const int64_t column = w + axis.pad;
    return column % axis.stride * phase_size + column / axis.stride;
  }
};

/// The lanes of two vectors, taken in turn from the even ones or the odd ones.
template <int kFirst, class V, int... kLane>
FASTCONV_INLINE V every_second(V a, V b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, (2 * kLane + kFirst)...);
}
/// The lanes of the first or second halves of two vectors in turn.
template <int kFirst, class V, int... kLane>
FASTCONV_INLINE V in_turn(V a, V b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, (kFirst + kLane / 2 + kLane % 2 * static_cast<int>(sizeof...(kLane)))...);
}
using Lanes = std::make_integer_sequence<int, kLanes>;

/// Places the vectors a, b of inputs [w, w + 2 * kLanes), of which `n` exist.
template <class V, class T>
FASTCONV_INLINE void put(const Columns& c, T* to, int64_t w, V a, V b, int64_t n) {
  if (c.axis.stride == 1) {
    std::memcpy(to + c.of_input(w), &a, sizeof(a));
    if (n > kLanes) std::memcpy(to + c.of_input(w) + kLanes, &b, sizeof(b));
  } else if (c.axis.stride == 2) {
    const V even = every_second<0>(a, b, Lanes{}), odd = every_second<1>(a, b, Lanes{});
    std::memcpy(to + c.of_input(w), &even, sizeof(even));
    std::memcpy(to + c.of_input(w + 1), &odd, sizeof(odd));
  } else {
    for (int64_t i = 0; i < n; ++i) to[c.of_input(w + i)] = i < kLanes ? a[i] : b[i - kLanes];
  }
}

}  // namespace
}  // namespace fastconv
