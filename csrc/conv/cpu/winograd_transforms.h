// The three transforms of F(m x m, 3x3) on vectors of channels: Y = At [(G g Gt) * (Bt d B)] A, "*" elementwise.
//
// m = 2 takes the points 0, 1, -1 and infinity and is exact on small integers; m = 4 takes 0, +-5/8, +-3/2 and
// infinity, whose rounding errors are much smaller than those of 0, +-1, +-2. Each 2-d transform goes over the rows of
// the result in pairs that share their sums: no more than two rows of vectors are alive, nothing goes through memory.
// docs/winograd.md derives the matrices.
#pragma once

#include "core/cpu/simd.h"
#include "core/winograd_points.h"

namespace fastconv {
namespace {

template <int kM>
struct Transform;

template <>
struct Transform<4> {
  static constexpr int kTile = 6, kPositions = 36;
  static constexpr float kNear = winograd_f4::kNear, kNear2 = winograd_f4::kNear2, kAtNear = winograd_f4::kAtNear;
  static constexpr float kFar = winograd_f4::kFar, kFar2 = winograd_f4::kFar2, kAtFar = winograd_f4::kAtFar;

  /// v[i * position] = Bt d B for the tile whose vectors are d(r, s).
  template <class Load>
  FASTCONV_INLINE static void input(Load&& d, float* v, int64_t position) {
    const Vec near = broadcast(kNear), near2 = broadcast(kNear2), far = broadcast(kFar), far2 = broadcast(kFar2);
    const Vec product = broadcast(kNear2 * kFar2), sum = broadcast(kNear2 + kFar2);
    const auto finish_row = [&](const Vec(&t)[6], int r) {
      float* to = v + 6 * r * position;
      const Vec even1 = fnma(far2, t[2], t[4]), odd1 = fnma(far2, t[1], t[3]);
      const Vec even2 = fnma(near2, t[2], t[4]), odd2 = fnma(near2, t[1], t[3]);
      store(to, fma(product, t[0], fnma(sum, t[2], t[4])));
      store(to + position, fma(near, odd1, even1));
      store(to + 2 * position, fnma(near, odd1, even1));
      store(to + 3 * position, fma(far, odd2, even2));
      store(to + 4 * position, fnma(far, odd2, even2));
      store(to + 5 * position, fma(product, t[1], fnma(sum, t[3], t[5])));
    };
    Vec t[6], u[6];
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) t[s] = fma(product, d(0, s), fnma(sum, d(2, s), d(4, s)));
    finish_row(t, 0);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) {
      const Vec even = fnma(far2, d(2, s), d(4, s)), odd = fnma(far2, d(1, s), d(3, s));
      t[s] = fma(near, odd, even), u[s] = fnma(near, odd, even);
    }
    finish_row(t, 1), finish_row(u, 2);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) {
      const Vec even = fnma(near2, d(2, s), d(4, s)), odd = fnma(near2, d(1, s), d(3, s));
      t[s] = fma(far, odd, even), u[s] = fnma(far, odd, even);
    }
    finish_row(t, 3), finish_row(u, 4);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) t[s] = fma(product, d(1, s), fnma(sum, d(3, s), d(5, s)));
    finish_row(t, 5);
  }

  /// Calls `emit(p, q, value)` for each of the 4 x 4 outputs At M A, M[i] = m[i * position].
  template <class Emit>
  FASTCONV_INLINE static void output(const float* m, int64_t position, Emit&& emit) {
    const Vec near = broadcast(kNear), near2 = broadcast(kNear2), near3 = broadcast(kNear2 * kNear);
    const Vec far = broadcast(kFar), far2 = broadcast(kFar2), far3 = broadcast(kFar2 * kFar);
    const auto at = [&](int r, int s) { return load(m + (6 * r + s) * position); };
    const auto finish_row = [&](const Vec(&t)[6], int p) {
      const Vec even1 = t[1] + t[2], even2 = t[3] + t[4], odd1 = t[1] - t[2], odd2 = t[3] - t[4];
      emit(p, 0, t[0] + even1 + even2);
      emit(p, 1, fma(far, odd2, near * odd1));
      emit(p, 2, fma(far2, even2, near2 * even1));
      emit(p, 3, fma(far3, odd2, fma(near3, odd1, t[5])));
    };
    Vec t[6], u[6];
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) {
      const Vec even1 = at(1, s) + at(2, s), even2 = at(3, s) + at(4, s);
      t[s] = at(0, s) + even1 + even2, u[s] = fma(far2, even2, near2 * even1);
    }
    finish_row(t, 0), finish_row(u, 2);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) {
      const Vec odd1 = at(1, s) - at(2, s), odd2 = at(3, s) - at(4, s);
      t[s] = fma(far, odd2, near * odd1), u[s] = fma(far3, odd2, fma(near3, odd1, at(5, s)));
    }
    finish_row(t, 1), finish_row(u, 3);
  }

  /// out[0..5] = G g for one column of the filter.
  FASTCONV_INLINE static void filter(Vec g0, Vec g1, Vec g2, Vec (&out)[6]) {
    const Vec even1 = fma(broadcast(kAtNear), g0, broadcast(kAtNear * kNear2) * g2);
    const Vec even2 = fma(broadcast(kAtFar), g0, broadcast(kAtFar * kFar2) * g2);
    const Vec odd1 = broadcast(kAtNear * kNear) * g1, odd2 = broadcast(kAtFar * kFar) * g1;
    out[0] = broadcast(1 / (kNear2 * kFar2)) * g0;
    out[1] = even1 + odd1, out[2] = even1 - odd1;
    out[3] = even2 + odd2, out[4] = even2 - odd2;
    out[5] = g2;
  }
};

template <>
struct Transform<2> {
  static constexpr int kTile = 4, kPositions = 16;

  template <class Load>
  FASTCONV_INLINE static void input(Load&& d, float* v, int64_t position) {
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
