// The products of Winograd's F(4x4): out = V * U for all positions at once.
#pragma once

#include "conv/cuda/winograd.h"
#include "conv/cuda/winograd_tile.h"
#include "core/cuda/ptx.h"

namespace fastconv {
namespace {

constexpr int kGemmRows = 128, kGemmThreads = 128;

/// out[position][row][column] = sum over depth of v[position][row][depth] * u[position][panel][depth][column % 64].
///
/// Everything is filled up to whole tiles: rows to kGemmRows, columns to kPanel, depth to kChunk (that with zeros).
struct Gemm {
  const float *v, *u;
  float* out;
  int depth, columns;
  int64_t v_position, u_position, out_position;
};

/// V's chunk turned to [depth][row]. The 16 rows of a warp's lanes and its two halves of a chunk, whose rows of memory
/// lie 16 banks apart, are stored without conflicts; 528 bytes a row keep the loads aligned.
struct GemmShared {
  float v[2][kChunk][kGemmRows + 4];
  float u[2][kChunk][kPanel];
};
static_assert(blocks_fit(sizeof(GemmShared), 4));

/// Block (panel + panels * block of rows, position): 128 x 64 outputs, four warps one under the other. While a chunk is
/// multiplied, the next one's V comes to registers and its U to shared memory. A chunk is 512 FMAs of about 600
/// instructions a warp, and 6 KB from L2 for 512 cycles of an SM: 12 bytes a cycle. 12.5 KB of shared memory and 128
/// registers: 4 blocks an SM.
__global__ void __launch_bounds__(kGemmThreads, 4) multiply_positions(Gemm g) {
  GemmShared& shared = shared_memory<GemmShared>();
  const int thread = threadIdx.x, warp = thread / kWarpSize, panels = g.columns / kPanel;
  const int panel = blockIdx.x % panels;
  const int64_t row0 = int64_t{1} * (blockIdx.x / panels) * kGemmRows;
  const int fill_row = thread / 2, fill_depth = thread % 2 * 4;
  const float* v = g.v + blockIdx.y * g.v_position + (row0 + fill_row) * g.depth + fill_depth;
  const int64_t v_half = int64_t{kGemmRows / 2} * g.depth;
  const float* u = g.u + blockIdx.y * g.u_position + int64_t{panel} * g.depth * kPanel + thread * 4;

  Pack<float, 4> next[2];
  const auto begin = [&](int buffer) {
    ptx::cp_async<16>(&shared.u[buffer][0][0] + thread * 4, u);
    ptx::cp_async_commit();
    next[0] = load_pack<4>(v), next[1] = load_pack<4>(v + v_half);
    v += kChunk, u += kChunk * kPanel;
  };
  const auto end = [&](int buffer) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 4; ++i) shared.v[buffer][fill_depth + i][fill_row + half * kGemmRows / 2] = next[half].at[i];
    ptx::cp_async_wait<0>();
    __syncthreads();
  };

  const LanePlace lane = lane_place(thread % kWarpSize);
  float sums[8][8] = {};
  const int chunks = g.depth / kChunk;
  if (chunks > 0) begin(0), end(0);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int buffer = chunk % 2;
    if (chunk + 1 < chunks) begin(1 - buffer);
    const float* rows = &shared.v[buffer][0][warp * kWarpRows + 4 * lane.row];
    const float* columns = &shared.u[buffer][0][4 * lane.column];
#pragma unroll
    for (int l = 0; l < kChunk; ++l) {
      const float* from = rows + l * (kGemmRows + 4);
      multiply_step(sums, from, from + 16, columns + l * kPanel);
    }
    if (chunk + 1 < chunks) end(1 - buffer);
  }

  float* out = g.out + blockIdx.y * g.out_position + (row0 + warp * kWarpRows) * g.columns + panel * kPanel;
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      Pack<float, 4> pack;
#pragma unroll
      for (int l = 0; l < 4; ++l) pack.at[l] = sums[i][4 * j + l];
      store_pack(out + int64_t{lane_row(lane, i)} * g.columns + 32 * j + 4 * lane.column, pack);
    }
}

}  // namespace
}  // namespace fastconv
