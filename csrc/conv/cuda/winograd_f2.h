// F(2x2, 3x3) on NHWC in one kernel: neither the transformed input nor the products reach global memory.
//
// Y = At [(G g Gt) * (Bt d B)] A: a block makes 32 tiles x 64 output channels. It goes over C in chunks of 8: eight of
// its warps transform the tiles' inputs into shared memory (V), the others copy the transformed filter (U), and each of
// the 16 warps multiplies one of the 16 positions, 32 x 64, in registers. The next chunk is on its way meanwhile. Then
// the products are exchanged through shared memory, 16 tiles at a time, transformed and finished.
//
// Floor: 4 FMAs an output and channel instead of 9. 64 -> 64 channels on 56 x 56 x 128 images take 196 us of an H200's
// FMAs and 48 us of its memory. A chunk of a block is 262144 FMAs, 2048 cycles of an SM, on 32 KB of U and 9 KB of x
// (4 rows of 66 pixels; L1 serves the repetitions): 20 bytes a cycle from L2, which gives about 24. So one kernel pays
// from the smallest C on. Of F(4x4) it would hold half as many tiles and channels: why that is not fused,
// winograd_f4.h. A chunk is 512 FMAs and 32 loads of operands a warp; with it go 150 instructions where it transforms,
// 45 where it copies: 4 of 5 that are issued are FMAs. Shared memory is busy for 1400 of the 2048 cycles.
//
// Memory: 96 KB shared, two buffers of U and V: one block an SM, also where it has no more than 100 KB. 512 threads of
// 128 registers fill the register file: 64 sums, 32 operands, 16 pixels on their way, the rest addresses.
// x is read a float a lane: eight lanes take the 32 bytes of a pixel's chunk, whole sectors whatever C is, and its
// pixels lie at offsets that are constants of the launch. V's groups of four tiles are permuted by channel
// (group ^ channel): neither the stores of 8 channels x 4 tiles nor the 16-byte loads of a channel meet in a bank.
#pragma once

#include "conv/cuda/winograd.h"
#include "conv/cuda/winograd_tile.h"
#include "core/cuda/ptx.h"

namespace fastconv {
namespace {

constexpr int kFusedPositions = 16, kFusedTiles = kWarpRows, kFusedThreads = kFusedPositions * kWarpSize;
constexpr int kInputThreads = kFusedTiles * kChunk;              // transform the input
constexpr int kCopyThreads = kFusedThreads - kInputThreads;      // copy U
constexpr int kChunkFloats = kFusedPositions * kChunk * kPanel;  // of U
constexpr int kPassTiles = 16;  // tiles of a pass of the output's transform, one a warp

struct Fused {
  const float *x, *u;  // u[panel][chunk][position][8][64]
  float* y;
  TileGrid grid;
  int pixel[4][4];  // of a tile, in elements from its first
  int C, K, chunks, panels;
};

union FusedShared {
  struct {
    float u[2][kFusedPositions][kChunk][kPanel];
    float v[2][kFusedPositions][kChunk][kFusedTiles];
  } in;
  float out[kFusedPositions][kPassTiles][kPanel + 4];  // tiles four apart, as lanes hold them, lie 16 banks apart
};
static_assert(sizeof(FusedShared) == 96 * 1024);

/// One channel of a tile's inputs, chunk after chunk.
struct TileInput {
  const float* at;  // the tile's first pixel
  unsigned inside;  // bit 4 r + s: the pixel lies in the image

  __device__ __forceinline__ TileInput(const Fused& f, int index, int channel) : at(f.x), inside(0) {
    const TileGrid& grid = f.grid;
    if (index >= grid.tiles) return;
    const TileGrid::Tile tile = grid.tile<2>(index);
    const int h = tile.p - grid.pad_h, w = tile.q - grid.pad_w;
    at += ((int64_t{1} * tile.n * grid.H + h) * grid.W + w) * f.C + channel;
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const int at_h = h + r * grid.dilation_h, at_w = w + s * grid.dilation_w;
        if (at_h >= 0 && at_h < grid.H && at_w >= 0 && at_w < grid.W) inside |= 1u << (4 * r + s);
      }
  }
  __device__ __forceinline__ void load(const Fused& f, bool channel_exists, float (&d)[4][4]) const {
    const unsigned mask = channel_exists ? inside : 0;
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int s = 0; s < 4; ++s) d[r][s] = mask >> (4 * r + s) & 1 ? at[f.pixel[r][s]] : 0.f;
  }
};

__global__ void __launch_bounds__(kFusedThreads, 1) convolve_f2(Fused f, Epilogue epilogue) {
  FusedShared& shared = shared_memory<FusedShared>();
  const int thread = threadIdx.x, warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int panel = blockIdx.x % f.panels, tile0 = static_cast<int>(blockIdx.x) / f.panels * kFusedTiles;
  const bool transforms = thread < kInputThreads;  // whole warps

  // Transforming: warp -> group of four tiles, lane -> tile of the group and channel of the chunk.
  const int fill_channel = lane % kChunk, fill_at = (warp ^ fill_channel) * 4 + lane / kChunk;
  TileInput input(f, transforms ? tile0 + warp * 4 + lane / kChunk : f.grid.tiles, fill_channel);
  const float* u = f.u + int64_t{panel} * f.chunks * kChunkFloats + (thread - kInputThreads) * 4;
  float d[4][4];

  const auto begin = [&](int chunk) {
    if (transforms) {
      input.load(f, chunk * kChunk + fill_channel < f.C, d);
      input.at += kChunk;
      return;
    }
    float* to = &shared.in.u[chunk % 2][0][0][0] + (thread - kInputThreads) * 4;
#pragma unroll
    for (int i = 0; i < kChunkFloats; i += kCopyThreads * 4) ptx::cp_async<16>(to + i, u + i);
    ptx::cp_async_commit();
    u += kChunkFloats;
  };
  const auto end = [&](int chunk) {
    if (transforms) {
      transform_input<2>(d);
#pragma unroll
      for (int i = 0; i < kFusedPositions; ++i) shared.in.v[chunk % 2][i][fill_channel][fill_at] = d[i / 4][i % 4];
    } else {
      ptx::cp_async_wait<0>();
    }
    __syncthreads();
  };

  const LanePlace at = lane_place(lane);
  float sums[8][8] = {};
  if (f.chunks > 0) begin(0), end(0);
  for (int chunk = 0; chunk < f.chunks; ++chunk) {
    if (chunk + 1 < f.chunks) begin(chunk + 1);
    const float* rows = &shared.in.v[chunk % 2][warp][0][0];
    const float* columns = &shared.in.u[chunk % 2][warp][0][4 * at.column];
#pragma unroll
    for (int c = 0; c < kChunk; ++c) {
      // Group g of channel c lies at g ^ c; a lane's are row and row + 4.
      const float* low = rows + c * kFusedTiles + 4 * (at.row ^ (c & 3));
      multiply_step(sums, low + 4 * (c & 4), low + 4 * (~c & 4), columns + c * kPanel);
    }
    if (chunk + 1 < f.chunks) end(chunk + 1);
  }

#pragma unroll
  for (int pass = 0; pass < kFusedTiles / kPassTiles; ++pass) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        Pack<float, 4> pack;
#pragma unroll
        for (int l = 0; l < 4; ++l) pack.at[l] = sums[4 * pass + i][4 * j + l];
        store_pack(&shared.out[warp][lane_row(at, i)][4 * at.column + 32 * j], pack);
      }
    __syncthreads();
    const int index = tile0 + pass * kPassTiles + warp;  // a warp finishes a tile
    if (index >= f.grid.tiles) continue;
    const TileGrid::Tile tile = f.grid.tile<2>(index);
    for (int column = lane; column < kPanel && panel * kPanel + column < f.K; column += kWarpSize) {
      float y[2][2];
      transform_output<2>([&](int i) { return shared.out[i][warp][column]; }, y);
      write_tile<2>(f.grid, tile, y, panel * kPanel + column, f.K, epilogue, f.y);
    }
  }
}

struct WinogradF2 {
  static const char* why_not(const ConvProblem& p) {
    if (const char* reason = winograd_why_not(p)) return reason;
    // Of which a thread reads 4 x 4 pixels by 32-bit offsets from the first, which may lie in the padding.
    if ((3 * p.dilation_h * p.W + 3 * p.dilation_w) * p.C >= int64_t{1} << 31) return "takes smaller dilations only";
    return nullptr;
  }

  static FilterLayout layout(const ConvProblem& p) {
    const int chunks = static_cast<int>(divide_up(p.C, kChunk)), panels = static_cast<int>(divide_up(p.K, kPanel));
    return {chunks, panels, kChunk * kPanel, kChunkFloats, int64_t{chunks} * kChunkFloats};
  }
  static size_t workspace(const ConvProblem& p) {
    const FilterLayout u = layout(p);
    return static_cast<size_t>(u.panels * u.panel) * sizeof(float);
  }
  static void run(const ConvProblem& p, const ConvArgs& args) {
    if (p.y_elements() == 0) return;
    const FilterLayout u = layout(p);
    float* filter = static_cast<float*>(args.workspace);
    launch_transform_filter<2>("winograd_f2 filter", p, u, args.w, filter, args.stream);
    Fused f = {.x = static_cast<const float*>(args.x),
               .u = filter,
               .y = static_cast<float*>(args.out),
               .grid = tile_grid<2>(p),
               .pixel = {},
               .C = static_cast<int>(p.C),
               .K = static_cast<int>(p.K),
               .chunks = u.chunks,
               .panels = u.panels};
    for (int r = 0; r < 4; ++r)
      for (int s = 0; s < 4; ++s) f.pixel[r][s] = static_cast<int>((r * p.dilation_h * p.W + s * p.dilation_w) * p.C);
    const Launch at = {.grid = {static_cast<unsigned>(divide_up(f.grid.tiles, kFusedTiles) * u.panels)},
                       .block = {kFusedThreads},
                       .shared_bytes = sizeof(FusedShared),
                       .stream = args.stream};
    launch("winograd_f2", p, convolve_f2, at, f, args.epilogue);
  }
};

}  // namespace
}  // namespace fastconv
