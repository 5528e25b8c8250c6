// F(4x4, 3x3) on NHWC in three kernels, portion of tiles by portion: V = Bt d B of the portion into the workspace,
// M = V * U for each of the 36 positions (winograd_gemm.h), y = At M A with the epilogue.
//
// Floor: 2.25 FMAs an output and channel instead of 9. 64 -> 64 channels on 56 x 56 x 128 images take 110 us of an
// H200's FMAs; 256 -> 256 on 14 x 14 x 128 as much, and 144 with the rows and columns that tiles of 4 add to 14. V and
// M are 2.25 floats a pixel and channel, each written and read once: mostly in L2, for a portion's are at most 32 MB
// (or one block of 128 tiles), but L2 gives no more than 5.5 TB/s: 168 us for the former, 42 for the latter. So this
// way needs about 128 channels to win over F(2x2), whose products never leave the registers. One kernel for F(4x4)
// would wait for L2 too: 36 positions leave registers for 32 x 32 a position, whose U and x are 7 KB a channel for 288
// cycles of FMAs, at the limit of 24 bytes a cycle, and each transformed input would serve 32 channels only.
//
// The transforms take a float a thread, lanes along the channels, so that any C and K will do: 36 loads of 128
// neighbouring bytes a warp are in flight, 2 blocks of 256 threads an SM (104 registers at most, no shared memory).
#pragma once

#include "conv/cuda/winograd_gemm.h"

namespace fastconv {
namespace {

constexpr int kPositions = 36, kTransformThreads = 256;

/// Thread (tile, c): v[position][tile][c], zeros for the channels that fill up the depth.
__global__ void __launch_bounds__(kTransformThreads, 2)
    transform_x(const float* __restrict__ x, TileGrid grid, int C, int first, int64_t count, FastDivmod depth,
                int64_t position, float* __restrict__ v) {
  const int64_t index = int64_t{blockIdx.x} * kTransformThreads + threadIdx.x;
  if (index >= count) return;
  int row;
  const int c = depth.divmod(static_cast<int>(index), &row);
  const TileGrid::Tile tile = grid.tile<4>(first + row);
  const int h = tile.p - grid.pad_h, w = tile.q - grid.pad_w;
  const int64_t image = int64_t{1} * tile.n * grid.H;
  float d[6][6];
#pragma unroll
  for (int r = 0; r < 6; ++r)
#pragma unroll
    for (int s = 0; s < 6; ++s) {
      const int at_h = h + r * grid.dilation_h, at_w = w + s * grid.dilation_w;
      const bool inside = c < C && at_h >= 0 && at_h < grid.H && at_w >= 0 && at_w < grid.W;
      d[r][s] = inside ? x[((image + at_h) * grid.W + at_w) * C + c] : 0.f;
    }
  transform_input<4>(d);
#pragma unroll
  for (int i = 0; i < kPositions; ++i) v[i * position + index] = d[i / 6][i % 6];
}

/// Thread (tile, k): the 4 x 4 outputs from m[position][tile][k].
__global__ void __launch_bounds__(kTransformThreads, 2)
    transform_m(const float* __restrict__ m, int64_t position, int columns, TileGrid grid, int first, int64_t count,
                FastDivmod channels, Epilogue epilogue, float* __restrict__ y) {
  const int64_t index = int64_t{blockIdx.x} * kTransformThreads + threadIdx.x;
  if (index >= count) return;
  int row;
  const int k = channels.divmod(static_cast<int>(index), &row);
  const float* from = m + int64_t{row} * columns + k;
  float out[4][4];
  transform_output<4>([&](int i) { return from[i * position]; }, out);
  write_tile<4>(grid, grid.tile<4>(first + row), out, k, channels.divisor(), epilogue, y);
}

/// How the workspace is cut: U, then V and M of one portion.
///
/// An A100 has 40 MB of L2, an H200 50; U (2.25 MB for 128 -> 128 channels, 9 for 256 -> 256) and, passing by, x and y
/// want their part. But where C = K, a block of the products has 64 KB of V and M: 32 MB are 512 blocks, four for each
/// of 128 multiprocessors. With half the bytes half of those warps would be missing, and twice as many kernels start.
struct PortionPlan {
  static constexpr int64_t kPortionBytes = int64_t{32} << 20;

  int64_t tiles, depth, columns;  // depth and columns: C and K filled up
  int64_t rows;                   // tiles of a portion, filled up to the products' blocks

  explicit PortionPlan(const ConvProblem& p)
      : tiles(count_tiles<4>(p)), depth(divide_up(p.C, kChunk) * kChunk), columns(divide_up(p.K, kPanel) * kPanel) {
    // As many whole blocks as fit, the same number in each portion.
    const int64_t block_bytes = int64_t{4} * kPositions * (depth + columns) * kGemmRows;
    const int64_t most = kPortionBytes / block_bytes > 1 ? kPortionBytes / block_bytes : 1;
    const int64_t blocks = divide_up(tiles, kGemmRows), portions = divide_up(blocks, most);
    rows = portions ? divide_up(blocks, portions) * kGemmRows : 0;
  }
  int64_t u_floats() const { return kPositions * depth * columns; }
  int64_t v_floats() const { return kPositions * rows * depth; }
  int64_t m_floats() const { return kPositions * rows * columns; }
};

struct WinogradF4 {
  static const char* why_not(const ConvProblem& p) { return winograd_why_not(p); }

  static size_t workspace(const ConvProblem& p) {
    const PortionPlan plan(p);
    return static_cast<size_t>(plan.u_floats() + plan.v_floats() + plan.m_floats()) * sizeof(float);
  }

  static void run(const ConvProblem& p, const ConvArgs& args) {
    if (p.y_elements() == 0) return;
    const PortionPlan plan(p);
    float* u = static_cast<float*>(args.workspace);
    float *v = u + plan.u_floats(), *m = v + plan.v_floats();
    const int chunks = static_cast<int>(plan.depth / kChunk), panels = static_cast<int>(plan.columns / kPanel);
    const FilterLayout layout = {chunks, panels, plan.depth * plan.columns, kChunk * kPanel, plan.depth * kPanel};
    launch_transform_filter<4>("winograd_f4 filter", p, layout, args.w, u, args.stream);

    const TileGrid grid = tile_grid<4>(p);
    const Gemm gemm = {v,
                       u,
                       m,
                       static_cast<int>(plan.depth),
                       static_cast<int>(plan.columns),
                       plan.rows * plan.depth,
                       plan.depth * plan.columns,
                       plan.rows * plan.columns};
    const FastDivmod depth(chunks ? gemm.depth : 1), channels(static_cast<int>(p.K));
    const auto blocks = [](int64_t count) { return static_cast<unsigned>(divide_up(count, kTransformThreads)); };
    for (int64_t first = 0; first < plan.tiles; first += plan.rows) {
      const int64_t rows = plan.tiles - first < plan.rows ? plan.tiles - first : plan.rows;
      const Launch input = {.grid = {blocks(rows * plan.depth)}, .block = {kTransformThreads}, .stream = args.stream};
      launch("winograd_f4 input", p, transform_x, input, static_cast<const float*>(args.x), grid, static_cast<int>(p.C),
             static_cast<int>(first), rows * plan.depth, depth, gemm.v_position, v);
      const Launch products = {.grid = {static_cast<unsigned>(divide_up(rows, kGemmRows) * panels), kPositions},
                               .block = {kGemmThreads},
                               .shared_bytes = sizeof(GemmShared),
                               .stream = args.stream};
      launch("winograd_f4 products", p, multiply_positions, products, gemm);
      const Launch output = {.grid = {blocks(rows * p.K)}, .block = {kTransformThreads}, .stream = args.stream};
      launch("winograd_f4 output", p, transform_m, output, static_cast<const float*>(m), gemm.out_position,
             gemm.columns, grid, static_cast<int>(first), rows * p.K, channels, args.epilogue,
             static_cast<float*>(args.out));
    }
  }
};

}  // namespace
}  // namespace fastconv
