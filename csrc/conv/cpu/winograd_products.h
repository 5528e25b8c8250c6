// The matrix products of F(m x m, 3x3), over channels, one for each position.
#pragma once

#include "core/cpu/gemm.h"

namespace fastconv {
namespace {

/// One operand of `batch` products: element (i, j) of product b lies at data[b * batch + i * row + j].
template <class Pointer>
struct Matrices {
  Pointer data;
  int64_t row, batch;
};

constexpr int64_t kRun = 16;      // steps between two rounds of prefetching
constexpr int64_t kAhead = 4096;  // floats between what is read of a panel and what is fetched into L2

/// Adds the products after the first block, a block at a time.
template <int MR, int NV, int kColumns>
__attribute__((noinline)) void add_blocks(const float* a, int64_t a_row, const float* b, int64_t length, float* out,
                                          int64_t out_row) {
  for (int64_t first = kBlockOfSum; first < length; first += kBlockOfSum) {
    Vec acc[MR][NV];
    clear(acc);
    accumulate<MR, NV>(acc, a + first, a_row, b + first * kColumns, least(length - first, kBlockOfSum), kColumns);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        float* to = out + i * out_row + j * kLanes;
        store(to, load(to) + acc[i][j]);
      }
  }
}

/// out = a * b for `batch` products of rows x length x (NV vectors), b in rows of kColumns floats. With one vector a
/// step is two loads for each multiplication anyway, so its tile is no higher than hides the latency. `ahead`: b comes
/// from beyond L2.
template <int NV, int kColumns>
__attribute__((noinline)) void multiply(const Matrices<const float*>& a, const Matrices<const float*>& b,
                                        const Matrices<float*>& out, int64_t batch, int64_t rows, int64_t length,
                                        bool ahead) {
  constexpr int kMost = NV == 1 && kTileRows == 14 ? 16 : kTileRows;
  const Tiling tiling = tile_rows(rows, kMost);
  for (int64_t i0 = 0; i0 < rows; i0 += tiling.height) {
    const int64_t count = rows - i0 < tiling.height ? rows - i0 : tiling.height;
    with_rows<kMost>(count, [&](auto n) {
      constexpr int MR = decltype(n)::value;
      for (int64_t one = 0; one < batch; ++one) {
        const float *from = a.data + one * a.batch + i0 * a.row, *columns = b.data + one * b.batch;
        float* to = out.data + one * out.batch + i0 * out.row;
        Vec acc[MR][NV];
        clear(acc);
        const int64_t chain = least(length, kBlockOfSum), piece = ahead && i0 == 0 ? kRun : chain;
        for (int64_t l = 0; l < chain; l += piece) {
          const int64_t run = least(chain - l, piece);
          accumulate<MR, NV>(acc, from + l, a.row, columns + l * kColumns, run, kColumns);
          if (ahead && i0 == 0)
            for (int64_t i = 0; i < run * kColumns; i += 16)
              __builtin_prefetch(columns + l * kColumns + i + kAhead, 0, 2);
        }
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
          for (int j = 0; j < NV; ++j) store(to + i * out.row + j * kLanes, acc[i][j]);
        if (chain < length) add_blocks<MR, NV, kColumns>(from, a.row, columns, length, to, out.row);
      }
    });
  }
}

}  // namespace
}  // namespace fastconv
