// One of a window's inputs, drawn by its share of the window's sum, vector by vector of channels.
#pragma once

#include "pool/cpu/reduce.h"
#include "pool/window.h"

namespace fastconv {
namespace {

/// What an input weighs: nothing where it is negative; NaN stays NaN, and makes the sum NaN.
FASTCONV_INLINE Vec weight_of(Vec x) { return {(x.v > zero().v) | (x.v != x.v) ? x.v : zero().v}; }

/// Calls `body(n lanes of x, place)` for each input of a window in its order; `image` begins at channel `channel`.
template <class T, class Body>
FASTCONV_INLINE void for_each_input(const PoolProblem& p, const T* image, const PoolWindow& d, const PoolWindow& h,
                                    const PoolWindow& w, int64_t n, const Body& body) {
  for (int64_t t = d.taps.begin; t < d.taps.end; ++t)
    for (int64_t r = h.taps.begin; r < h.taps.end; ++r) {
      const T* row = image + (d.input(t) * p.H + h.input(r)) * p.W * p.C;
      for (int64_t s = w.taps.begin; s < w.taps.end; ++s)
        body(load_lanes(row + w.input(s) * p.C, n), static_cast<int32_t>(index_of(p, d, t, h, r, w, s)));
    }
}

/// The sample of n channels, and its place in `at`: the first input up to which the weights sum to more than `uniform`
/// of all of them, else the last that weighs something. Zero where none does and NaN where their sum is no number, and
/// the window's first place.
template <class T>
FASTCONV_INLINE Vec sample(const PoolProblem& p, const T* image, const PoolWindow& d, const PoolWindow& h,
                           const PoolWindow& w, Vec uniform, int64_t n, Ints* at) {
  Vec total = zero(), sum = zero(), taken = zero();
  for_each_input(p, image, d, h, w, n, [&](Vec x, int32_t) { total = total + weight_of(x); });
  const Vec enough = uniform * total;
  const Ints first = Ints{} + static_cast<int32_t>(index_of(p, d, d.taps.begin, h, h.taps.begin, w, w.taps.begin));
  *at = first;
  Ints open = Ints{} - 1;  // all bits of the lanes that go on
  for_each_input(p, image, d, h, w, n, [&](Vec x, int32_t place) {
    const Vec weight = weight_of(x);
    sum = sum + weight;
    const Ints takes = (weight.v > zero().v) & open;
    taken.v = takes ? x.v : taken.v;
    *at = takes ? Ints{} + place : *at;
    open &= ~(takes & (sum.v > enough.v));
  });
  const Vec rest = total - total;  // NaN where the sum is no number
  const auto is_number = rest.v == zero().v;
  *at = is_number ? *at : first;
  taken.v = is_number ? taken.v : rest.v;
  return taken;
}

}  // namespace
}  // namespace fastconv
