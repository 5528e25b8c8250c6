// The three transforms of F(m x m, 3x3) on vectors of channels: Y = At [(G g Gt) * (Bt d B)] A, "*" elementwise.
//
// m = 2 takes the points 0, 1, -1 and infinity and is exact on small integers; m = 4 adds 2 and -2. Each 2-d transform
// goes over the rows of the result in pairs that share their sums, so that no more than two rows of vectors are alive
// and nothing is kept in memory between its two passes. docs/winograd.md derives the matrices.
#pragma once

#include "core/cpu/simd.h"

namespace fastconv {
namespace {

template <int kM>
struct Transform;

template <>
struct Transform<4> {
  static constexpr int kTile = 6, kPositions = 36;

  /// v[i * position] = Bt d B for the tile d[r][s] = x[r * row + s * column].
  FASTCONV_INLINE static void input(const float* x, int64_t row, int64_t column, float* v, int64_t position) {
    const Vec two = broadcast(2), four = broadcast(4), five = broadcast(5);
    const auto d = [&](int r, int s) { return load(x + r * row + s * column); };
    const auto finish_row = [&](const Vec(&t)[6], int r) {
      float* to = v + 6 * r * position;
      const Vec a = fnma(four, t[2], t[4]), b = fnma(four, t[1], t[3]);
      const Vec c = t[4] - t[2], e = t[3] - t[1];
      store(to, fma(four, t[0], fnma(five, t[2], t[4])));
      store(to + position, a + b);
      store(to + 2 * position, a - b);
      store(to + 3 * position, fma(two, e, c));
      store(to + 4 * position, fnma(two, e, c));
      store(to + 5 * position, fma(four, t[1], fnma(five, t[3], t[5])));
    };
    Vec t[6], u[6];
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) t[s] = fma(four, d(0, s), fnma(five, d(2, s), d(4, s)));
    finish_row(t, 0);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) {
      const Vec a = fnma(four, d(2, s), d(4, s)), b = fnma(four, d(1, s), d(3, s));
      t[s] = a + b, u[s] = a - b;
    }
    finish_row(t, 1), finish_row(u, 2);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) {
      const Vec a = d(4, s) - d(2, s), b = d(3, s) - d(1, s);
      t[s] = fma(two, b, a), u[s] = fnma(two, b, a);
    }
    finish_row(t, 3), finish_row(u, 4);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) t[s] = fma(four, d(1, s), fnma(five, d(3, s), d(5, s)));
    finish_row(t, 5);
  }

  /// Calls `emit(p, q, value)` for each of the 4 x 4 outputs At M A, M[i] = m[i * position].
  template <class Emit>
  FASTCONV_INLINE static void output(const float* m, int64_t position, Emit&& emit) {
    const Vec two = broadcast(2), four = broadcast(4), eight = broadcast(8);
    const auto at = [&](int r, int s) { return load(m + (6 * r + s) * position); };
    const auto finish_row = [&](const Vec(&t)[6], int p) {
      const Vec sum1 = t[1] + t[2], sum2 = t[3] + t[4], difference1 = t[1] - t[2], difference2 = t[3] - t[4];
      emit(p, 0, t[0] + sum1 + sum2);
      emit(p, 1, fma(two, difference2, difference1));
      emit(p, 2, fma(four, sum2, sum1));
      emit(p, 3, fma(eight, difference2, difference1) + t[5]);
    };
    Vec t[6], u[6];
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) {
      const Vec sum1 = at(1, s) + at(2, s), sum2 = at(3, s) + at(4, s);
      t[s] = at(0, s) + sum1 + sum2, u[s] = fma(four, sum2, sum1);
    }
    finish_row(t, 0), finish_row(u, 2);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) {
      const Vec difference1 = at(1, s) - at(2, s), difference2 = at(3, s) - at(4, s);
      t[s] = fma(two, difference2, difference1), u[s] = fma(eight, difference2, difference1) + at(5, s);
    }
    finish_row(t, 1), finish_row(u, 3);
  }

  /// out[0..5] = G g for one column of the filter.
  FASTCONV_INLINE static void filter(Vec g0, Vec g1, Vec g2, Vec (&out)[6]) {
    const Vec sixth = broadcast(-1.0f / 6), even1 = (g0 + g2) * sixth, odd1 = g1 * sixth;
    const Vec even2 = fma(broadcast(1.0f / 24), g0, g2 * broadcast(1.0f / 6)), odd2 = g1 * broadcast(1.0f / 12);
    out[0] = g0 * broadcast(0.25f);
    out[1] = even1 + odd1, out[2] = even1 - odd1;
    out[3] = even2 + odd2, out[4] = even2 - odd2;
    out[5] = g2;
  }
};

template <>
struct Transform<2> {
  static constexpr int kTile = 4, kPositions = 16;

  FASTCONV_INLINE static void input(const float* x, int64_t row, int64_t column, float* v, int64_t position) {
    const auto d = [&](int r, int s) { return load(x + r * row + s * column); };
    const auto finish_row = [&](const Vec(&t)[4], int r) {
      float* to = v + 4 * r * position;
      store(to, t[0] - t[2]);
      store(to + position, t[1] + t[2]);
      store(to + 2 * position, t[2] - t[1]);
      store(to + 3 * position, t[1] - t[3]);
    };
    Vec t[4], u[4];
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) t[s] = d(0, s) - d(2, s), u[s] = d(1, s) - d(3, s);
    finish_row(t, 0), finish_row(u, 3);
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) t[s] = d(1, s) + d(2, s), u[s] = d(2, s) - d(1, s);
    finish_row(t, 1), finish_row(u, 2);
  }

  template <class Emit>
  FASTCONV_INLINE static void output(const float* m, int64_t position, Emit&& emit) {
    const auto at = [&](int r, int s) { return load(m + (4 * r + s) * position); };
    Vec t[4], u[4];
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      const Vec m1 = at(1, s), m2 = at(2, s);
      t[s] = at(0, s) + m1 + m2, u[s] = m1 - m2 - at(3, s);
    }
    emit(0, 0, t[0] + t[1] + t[2]), emit(0, 1, t[1] - t[2] - t[3]);
    emit(1, 0, u[0] + u[1] + u[2]), emit(1, 1, u[1] - u[2] - u[3]);
  }

  FASTCONV_INLINE static void filter(Vec g0, Vec g1, Vec g2, Vec (&out)[4]) {
    const Vec half = broadcast(0.5f), even = (g0 + g2) * half, odd = g1 * half;
    out[0] = g0, out[1] = even + odd, out[2] = even - odd, out[3] = g2;
  }
};

}  // namespace
}  // namespace fastconv
