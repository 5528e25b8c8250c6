// Grouped wgrad of filters up to 7x7, dilated too, and in TF32: all but the dense 3x3 filters of 16-bit elements, for
// which grouped_wgrad.h is, whose way this is: rows of x and dy come through a ring, a row of x is multiplied with each
// of the dy rows that see it, and the sums of a split of the work go to the workspace.
//
// The taps and channels of a filter row are cut into octets, 8 channels of x at one tap; two octets are the 16 rows of
// a product, a warp's 8 channels of dy its columns, and 16 pixels (8 in TF32) its depth. A warp has all rows of the
// filter for up to kWgradPairs pairs of octets; where a filter row has more, other warps and blocks have them. The
// columns of a product are apart from each other and so are its rows: those without an octet are not stored.
//
// An item's rows of dy are those of one class modulo the dilation, and so are the rows of x that they see.
//
// Floor: x and dy once, 4 * R * S * C/groups bytes a channel and split. Planned: 128 registers, 30 to 80 KB of shared
// memory. In TF32 both operands are transposed by 4-byte loads, as ldmatrix turns 16 bits only: neighbouring pixels are
// 8 channels apart in the banks.
#pragma once

#include "conv/cuda/grouped_wgrad.h"

namespace fastconv {
namespace {

template <int kRows>
constexpr int kWgradPairs = kRows <= 3   ? 4
                            : kRows <= 5 ? 3
                                         : 2;
/// Tiles of 16 columns in a strip: a strip's dy lies in registers, as many rows as the filter has.
template <class T, int kRows>
constexpr int kWgradTiles = std::is_same_v<T, float> || (kRows > 3) ? 1 : kMaxTiles;
/// Blocks that share a multiprocessor's registers.
template <class T, int kRows>
constexpr int kWgradBlocks = std::is_same_v<T, float> && (kRows > 3) ? 1 : 2;
/// Products along the pixels of a tile.
template <class T>
constexpr int kDepths = std::is_same_v<T, float> ? 2 : 1;

struct TapsWgradPlan {
  int channels;                // of a block
  int window, octets, pairs;   // octets that a channel of dy sees at a tap, and in a filter row; pairs of these
  int warp_parts, part_tiles;  // parts of a filter row: warps of a block, blocks
  int channel_tiles, tiles, strips, rows, bands, items, splits;
  int columns, pitch, stage;  // staged: pixels of a row of x; elements to the next pixel; elements of a stage

  unsigned threads() const { return static_cast<unsigned>(channels / kChunk * warp_parts * kWarpSize); }
};

template <class T>
TapsWgradPlan plan_taps_wgrad(const ConvProblem& p) {
  constexpr int kMultiprocessors = 132, kItemsASplit = 4, kLowestBand = 8;
  const auto ceil_div = [](int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); };
  const bool low = p.R <= 3;
  const int warp_pairs = low ? kWgradPairs<3> : p.R <= 5 ? kWgradPairs<5> : kWgradPairs<7>;
  TapsWgradPlan plan = {};
  plan.window = chunks_a_tap(p);
  plan.octets = static_cast<int>(p.S) * plan.window;
  plan.pairs = ceil_div(plan.octets, 2);
  const int parts = ceil_div(plan.pairs, warp_pairs);
  plan.channels = parts == 1 && p.C % 64 == 0 ? 64 : 32;
  plan.warp_parts = std::min(parts, kMaxThreads / kWarpSize * kChunk / plan.channels);
  plan.part_tiles = ceil_div(parts, plan.warp_parts);
  plan.channel_tiles = static_cast<int>(p.C) / plan.channels;
  plan.tiles = p.Q <= kMmaPixels ? 1 : low ? kWgradTiles<T, 3> : kWgradTiles<T, 7>;
  plan.strips = ceil_div(p.Q, plan.tiles * kMmaPixels);
  const int64_t height = ceil_div(p.P, p.dilation_h);
  const int at_a_time = kMultiprocessors * (low ? kWgradBlocks<T, 3> : kWgradBlocks<T, 7>);
  const int enough = std::max(1, at_a_time / (plan.channel_tiles * plan.part_tiles));
  const auto cut_bands = [&](int bands) {
    plan.rows = std::max(1, ceil_div(height, bands));
    plan.bands = ceil_div(height, plan.rows);
    plan.items = static_cast<int>(p.N * p.dilation_h) * plan.strips * plan.bands;
  };
  int bands = 1;
  cut_bands(bands);
  while (plan.items > 0 && plan.items < kItemsASplit * enough && plan.rows > kLowestBand) cut_bands(++bands);
  plan.splits = std::min(plan.items, enough);
  plan.columns = static_cast<int>((plan.tiles * kMmaPixels - 1) * p.stride_w + (p.S - 1) * p.dilation_w + 1);
  plan.pitch = plan.channels + kChunk;
  plan.stage = (static_cast<int>(p.stride_h) * plan.columns + plan.tiles * kMmaPixels) * plan.pitch;
  return plan;
}

/// partial[split][k][r][s][c].
template <class T, int kRows, int kStride>
__global__ void __launch_bounds__(kMaxThreads, (kWgradBlocks<T, kRows>))
    grouped_taps_wgrad(const __grid_constant__ ConvShape p, const __grid_constant__ TapsWgradPlan plan,
                       const T* __restrict__ x, const T* __restrict__ dy, float* __restrict__ partial) {
  constexpr bool kFloat = std::is_same_v<T, float>;
  constexpr int kTiles = kWgradTiles<T, kRows>, kPairs = kWgradPairs<kRows>, kAhead = kStages<kStride> - 1;
  constexpr int kLive = (kRows + kStride - 1) / kStride;  // rows of dy that a row of x meets
  int block = static_cast<int>(blockIdx.x);
  const int first_channel = block % plan.channel_tiles * plan.channels;
  block /= plan.channel_tiles;
  const int part_tile = block % plan.part_tiles, split = block / plan.part_tiles;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int octets = plan.channels / kChunk, octet = warp % octets, pitch = plan.pitch, columns = plan.columns;
  const int first_pair = (part_tile * plan.warp_parts + warp / octets) * kPairs;
  T* const ring = &shared_memory<T>();

  const int first_item = static_cast<int>(int64_t{split} * plan.items / plan.splits);
  const int last_item = static_cast<int>(int64_t{split + 1} * plan.items / plan.splits);
  const int item_steps = plan.rows + (p.R + kStride - 1) / kStride - 1, steps = (last_item - first_item) * item_steps;

  const int chunks = plan.channels / kPackLanes<T>, threads = octets * plan.warp_parts * kWarpSize;
  RowLoader<T> x_rows(x, 0, p.H, p.W, p.C, chunks, pitch, threads / chunks);
  RowLoader<T> dy_rows(dy, 0, p.P, p.Q, p.K, chunks, pitch, threads / chunks);
  int item = first_item, row = 0, first_p = 0, first_q = 0;  // of `load`
  const auto load = [&](int step) {
    if (step < steps) {
      if (row == 0) {
        first_q = item % plan.strips * plan.tiles * kMmaPixels;
        const int band = item / plan.strips % plan.bands, rest = item / plan.strips / plan.bands;
        first_p = rest % p.dilation_h + band * plan.rows * p.dilation_h;
        const int n = rest / p.dilation_h;
        x_rows.offset = n * p.x.n + first_channel;
        dy_rows.offset = n * p.y.n + first_channel;
      }
      T* const to = ring + step % kStages<kStride> * plan.stage;
      const int at_p = first_p + row * p.dilation_h;
#pragma unroll 1
      for (int e = 0; e < kStride; ++e)
        if (e < p.R)
          x_rows.load(to + e * columns * pitch, at_p * kStride - p.pad_h + e, first_q * kStride - p.pad_w, columns);
      dy_rows.load(to + kStride * columns * pitch, row < plan.rows ? at_p : -1, first_q, plan.tiles * kMmaPixels);
      if (++row == item_steps) row = 0, ++item;
    }
    ptx::cp_async_commit();
  };
#pragma unroll 1
  for (int step = 0; step < kAhead; ++step) load(step);

  // Where a lane reads the octets of its pairs. Matrices of ldmatrix_x4_trans: both octets at pixels 0 to 7, then at 8
  // to 15. In TF32 a lane reads channel lane / 4 of pixel lane % 4 and every fourth after it.
  const int seen = octet / plan.window * plan.window * kChunk;
  const int pixel = kFloat ? lane % 4 : lane / 16 * 8 + lane % 8;
  int octet_at[kPairs][kFloat ? 2 : 1];
#pragma unroll
  for (int i = 0; i < kPairs; ++i)
#pragma unroll
    for (int half = 0; half < (kFloat ? 2 : 1); ++half) {
      const int m = smaller(2 * (first_pair + i) + (kFloat ? half : lane / 8 % 2), plan.octets - 1);
      octet_at[i][half] = (pixel * kStride + m / plan.window * p.dilation_w) * pitch + seen + m % plan.window * kChunk +
                          (kFloat ? lane / 4 : 0);
    }

  float sum[kRows][kPairs][4] = {};
  uint32_t b[kLive][kTiles][kDepths<T>][2] = {};
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kAhead - 1>();
    __syncthreads();
    load(step + kAhead);
    const T* const x_stage = ring + step % kStages<kStride> * plan.stage;
    const T* const dy_stage = x_stage + kStride * columns * pitch + octet * kChunk;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile >= plan.tiles) break;
#pragma unroll
      for (int depth = 0; depth < kDepths<T>; ++depth) {
#pragma unroll
        for (int j = kLive - 1; j > 0; --j)
          b[j][tile][depth][0] = b[j - 1][tile][depth][0], b[j][tile][depth][1] = b[j - 1][tile][depth][1];
        const T* const from = dy_stage + (tile * kMmaPixels + depth * 8) * pitch;
        if constexpr (kFloat) {
          b[0][tile][depth][0] = ptx::to_tf32(from[lane % 4 * pitch + lane / 4]);
          b[0][tile][depth][1] = ptx::to_tf32(from[(lane % 4 + 4) * pitch + lane / 4]);
        } else {
          ptx::ldmatrix_x2_trans(b[0][tile][depth], from + lane % 16 * pitch);
        }
      }
#pragma unroll
      for (int e = 0; e < kStride; ++e) {
        if (e >= p.R) continue;
        const T* const pixels = x_stage + (e * columns + tile * kMmaPixels * kStride) * pitch;
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
          if (first_pair + i >= plan.pairs) break;
#pragma unroll
          for (int depth = 0; depth < kDepths<T>; ++depth) {
            uint32_t a[4];
            if constexpr (kFloat) {
#pragma unroll
              for (int l = 0; l < 4; ++l)
                a[l] = ptx::to_tf32(pixels[octet_at[i][l % 2] + (depth * 8 + l / 2 * 4) * kStride * pitch]);
            } else {
              ptx::ldmatrix_x4_trans(a, pixels + octet_at[i][0]);
            }
#pragma unroll
            for (int j = 0; j < kLive; ++j) {
              const int r = e + j * kStride;
              if (r < kRows && (r < kRows - 1 || r < p.R))
                multiply_chunks<T>(sum[r < kRows ? r : 0][i], a, b[j][tile][depth]);
            }
          }
        }
      }
    }
  }

  const int size = p.C_per_group, first_k = first_channel + octet * kChunk + lane % 4 * 2;
  float* const out = partial + int64_t{split} * p.K * p.R * p.S * size;
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
#pragma unroll
      for (int l = 0; l < 4; ++l) {
        const int m = 2 * (first_pair + i) + l / 2, s = m / plan.window, k = first_k + l % 2;
        const int c = first_channel + seen + m % plan.window * kChunk + lane / 4;
        if (r < p.R && m < plan.octets && c / size == k / size)
          out[((int64_t{k} * p.R + r) * p.S + s) * size + c % size] = sum[r][i][l];
      }
}

template <class T, int kRows, int kStride>
void launch_taps_wgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  const TapsWgradPlan plan = plan_taps_wgrad<T>(p);
  launch(name, p, grouped_taps_wgrad<T, kRows, kStride>,
         {.grid = {static_cast<unsigned>(plan.splits * plan.part_tiles * plan.channel_tiles)},
          .block = {plan.threads()},
          .shared_bytes = static_cast<size_t>(kStages<kStride> * plan.stage) * sizeof(T),
          .stream = args.stream},
         shape_of(p), plan, static_cast<const T*>(args.x), static_cast<const T*>(args.dy),
         static_cast<float*>(args.workspace));
  launch_add_splits(name, p, args, plan.splits, p.w_elements() / 4, WriteChannels<T>{shape_of(p), args.w});
}

/// kRows is the odd number at or above R.
template <class T, int kStride>
void launch_taps_wgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  switch (p.R / 2) {
    case 0: return launch_taps_wgrad<T, 1, kStride>(name, p, args);
    case 1: return launch_taps_wgrad<T, 3, kStride>(name, p, args);
    case 2: return launch_taps_wgrad<T, 5, kStride>(name, p, args);
    case 3: return launch_taps_wgrad<T, 7, kStride>(name, p, args);
  }
}

template <class T>
void run_taps_wgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  if (p.stride_h == 1) launch_taps_wgrad<T, 1>(name, p, args);
  else launch_taps_wgrad<T, 2>(name, p, args);
}

template <class T>
size_t taps_wgrad_bytes(const ConvProblem& p) {
  return static_cast<size_t>(plan_taps_wgrad<T>(p).splits) * static_cast<size_t>(p.w_elements()) * sizeof(float);
}

}  // namespace
}  // namespace fastconv
