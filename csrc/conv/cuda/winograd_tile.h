// A warp's tile of a product of float matrices: 32 rows x 64 columns in registers, 8 x 8 a lane.
//
// A step of the depth is four 16-byte loads from shared memory for 64 FMAs. Half a warp reads 128 neighbouring bytes of
// the columns, or two runs of four rows; lanes i and i ^ 1 read the same columns, lanes i and i ^ 2 the same rows, for
// then an SM serves sixteen lanes at once instead of eight (Gray, "A full walk through of the SGEMM implementation",
// 2014): 8 cycles of shared memory a step, of the 16 that 64 FMAs of each of an sm_90's four schedulers leave it.
#pragma once

#include "core/cuda/vector.h"

namespace fastconv {
namespace {

constexpr int kWarpRows = 32;

/// Where a lane's 8 x 8 lie in the warp's 32 x 64: rows 4 * row + {0..3, 16..19}, columns 4 * column + {0..3, 32..35}.
struct LanePlace {
  int row, column;
};
__device__ __forceinline__ LanePlace lane_place(int lane) { return {lane % 2 + lane / 16 * 2, lane / 2 % 8}; }
__device__ __forceinline__ int lane_row(const LanePlace& at, int i) { return 4 * at.row + i % 4 + i / 4 * 16; }

/// sums += v * u for one step: `low` and `high` are the lane's runs of rows, `u` its first run of columns.
__device__ __forceinline__ void multiply_step(float (&sums)[8][8], const float* low, const float* high,
                                              const float* u) {
  const Pack<float, 4> rows[2] = {load_pack<4>(low), load_pack<4>(high)};
  const Pack<float, 4> columns[2] = {load_pack<4>(u), load_pack<4>(u + 32)};
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) sums[i][j] += rows[i / 4].at[i % 4] * columns[j / 4].at[j % 4];
}

}  // namespace
}  // namespace fastconv
