// The register tile under every dense kernel: MR rows of A times NV vectors of packed B.
//
// acc[i][j] += sum over l of a[i * a_stride + l] * b[l * NV * kLanes + j * kLanes ..]. Elements of A are broadcast, so
// A is read where it lies; B is packed so that its vectors follow each other. kTileRows x kTileVectors accumulators and
// one step's operands fill the register file: 14 x 2 for 32 registers, 6 x 2 for 16.
#pragma once

#include <type_traits>

#include "core/cpu/long_sum.h"
#include "core/cpu/simd.h"

namespace fastconv {
namespace {

constexpr int kTileVectors = 2;
constexpr int kTileRows = Vec::kRegisters == 32 ? 14 : 6;
constexpr int kPanel = kTileVectors * kLanes;  // columns of B that are packed together

/// Rows of A by base and stride, addressed as four rows from each of a few bases: so few that all stay in registers.
template <int MR>
struct RowPointers {
  static constexpr int kBases = (MR + 3) / 4;
  const float* base[kBases];
  int64_t stride;

  FASTCONV_INLINE RowPointers(const float* a, int64_t a_stride) : stride(a_stride) {
#pragma GCC unroll 16
    for (int i = 0; i < kBases; ++i) base[i] = a + 4 * i * a_stride;
  }
  FASTCONV_INLINE float at(int row, int64_t l) const { return base[row / 4][row % 4 * stride + l]; }
  FASTCONV_INLINE void advance(int64_t l) {
#pragma GCC unroll 16
    for (int i = 0; i < kBases; ++i) base[i] += l;
  }
};

template <int MR, int NV>
FASTCONV_INLINE void clear(Vec (&acc)[MR][NV]) {
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = zero();
}

template <int MR, int NV>
FASTCONV_INLINE void step(Vec (&acc)[MR][NV], const RowPointers<MR>& a, int64_t l, const float* b) {
  Vec columns[NV];
#pragma GCC unroll 4
  for (int j = 0; j < NV; ++j) columns[j] = load(b + j * kLanes);
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    // With one vector the compiler would have each multiplication broadcast for itself, which was measured slower.
    const Vec row = NV == 1 ? in_register(broadcast(a.at(i, l))) : broadcast(a.at(i, l));
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = fma(row, columns[j], acc[i][j]);
  }
}

/// One run of `length` steps. B's vectors of a step are `b_stride` floats from the next step's. A sum is one chain for
/// every height of tile: heights depend on the number of threads, results must not.
template <int MR, int NV>
FASTCONV_INLINE void accumulate(Vec (&acc)[MR][NV], const float* a, int64_t a_stride, const float* b, int64_t length,
                                int64_t b_stride = NV * kLanes) {
  RowPointers<MR> rows(a, a_stride);
  int64_t l = length;
  for (; l >= 4; l -= 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) step<MR, NV>(acc, rows, u, b + u * b_stride);
    rows.advance(4);
    b += 4 * b_stride;
  }
  for (; l > 0; --l) {
    step<MR, NV>(acc, rows, 0, b);
    rows.advance(1);
    b += b_stride;
  }
}

/// Memory that will be wanted soon: one piece of `kPanel` floats is fetched into L2 at every fourth step.
struct Ahead {
  const float* at;
  int64_t step;
  FASTCONV_INLINE void fetch() {
#pragma GCC unroll 2
    for (int64_t i = 0; i < kPanel; i += 16) __builtin_prefetch(at + i, 0, 2);
    at += step;
  }
};

/// The transposed form, for sums over pixels: acc[i][j] += sum over l of a[l * a_step + i] * b[l * NV * kLanes + ..].
template <int MR, int NV>
FASTCONV_INLINE void accumulate_transposed(Vec (&acc)[MR][NV], const float* a, int64_t a_step, const float* b,
                                           int64_t length, Ahead& ahead) {
  const auto one = [&](int64_t u) {
    Vec columns[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) columns[j] = load(b + (u * NV + j) * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const Vec row = broadcast(a[i]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) acc[i][j] = fma(row, columns[j], acc[i][j]);
    }
    a += a_step;
  };
  int64_t l = length;
  for (; l >= 4; l -= 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) one(u);
    ahead.fetch();
    b += 4 * NV * kLanes;
  }
  for (; l > 0; --l) {
    one(0);
    b += NV * kLanes;
  }
}

/// Calls `body(std::integral_constant<int, n>)` with n = `rows`, 1 <= rows <= kTileRows.
template <int N = kTileRows, class Body>
FASTCONV_INLINE void with_rows(int64_t rows, Body&& body) {
  if constexpr (N == 1) {
    body(std::integral_constant<int, 1>{});
  } else {
    if (rows == N) body(std::integral_constant<int, N>{});
    else with_rows<N - 1>(rows, body);
  }
}

/// `count` rows cut into tiles of nearly equal height: `count` tiles, each of `height` rows but the last.
struct Tiling {
  int64_t tiles, height;
};
FASTCONV_INLINE Tiling tile_rows(int64_t count, int64_t most = kTileRows) {
  const int64_t tiles = divide_up(count, most);
  return {tiles, tiles ? divide_up(count, tiles) : 0};
}

}  // namespace
}  // namespace fastconv
