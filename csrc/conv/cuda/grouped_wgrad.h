// Grouped wgrad of dense 3x3 filters by tensor cores: dw[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,h,w],
// h = p * stride - pad + r.
//
// A product has two chunks of (tap, 8 channels of x) as its 16 rows, a warp's 8 channels of dy as columns, and sums
// over 16 pixels; both operands are transposed by ldmatrix on their way from shared memory. The whole dw of a block's
// channels is in registers. A step takes one row of dy and `stride` of x: an x row is read from shared memory once and
// multiplied with each of the up to three dy rows that see it, which are kept in registers.
//
// The work is cut into items, bands of a strip of an image, and these into as many splits as fill the GPU once. A block
// goes through its items without draining the ring between them; the rows of dy behind an item's last are zeros, so
// that items do not mix. Its sums go to the workspace, until add_splits.h adds them.
//
// Floor: x and dy once; 36 * C/groups bytes a channel and split are written and read. Planned: 64 to 128 registers, 38
// KB of shared memory with unit stride and 64 channels, 70 KB with stride 2.
#pragma once

#include "conv/cuda/add_splits.h"
#include "conv/cuda/grouped.h"

namespace fastconv {
namespace {

struct WgradPlan {
  GroupedPlan cut;
  int items, splits;
};

inline WgradPlan plan_wgrad(const ConvProblem& p) {
  constexpr int kMultiprocessors = 132, kItemsASplit = 4, kLowestBand = 8;
  WgradPlan plan = {};
  plan.cut = plan_grouped(p, p.P, p.Q);
  const int at_a_time = kMultiprocessors * (chunks_a_tap(p) == 4 ? kBlocksPerSM<4> : kBlocksPerSM<1>);
  const int enough = std::max(1, at_a_time / plan.cut.channel_tiles);
  const auto cut_bands = [&](int bands) {
    plan.cut.rows = static_cast<int>(std::max<int64_t>(1, (p.P + bands - 1) / bands));
    plan.cut.bands = static_cast<int>((p.P + plan.cut.rows - 1) / plan.cut.rows);
    plan.items = static_cast<int>(p.N) * plan.cut.strips * plan.cut.bands;
  };
  int bands = 1;
  cut_bands(bands);
  while (plan.items > 0 && plan.items < kItemsASplit * enough && plan.cut.rows > kLowestBand) cut_bands(++bands);
  plan.splits = std::min(plan.items, enough);
  return plan;
}

/// Elements of a stage: the rows of x, then that of dy.
template <int kStride>
FASTCONV_HOST_DEVICE int wgrad_stage_size(const GroupedPlan& plan) {
  return (kStride * input_columns<kStride>(plan) + plan.tiles * kMmaPixels) * pitch_of(plan);
}

/// partial[split][k][r][s][c].
template <class T, int kChunks, int kStride>
__global__ void __launch_bounds__(kMaxThreads, kBlocksPerSM<kChunks>)
    grouped_wgrad(ConvShape p, WgradPlan wplan, const T* __restrict__ x, const T* __restrict__ dy,
                  float* __restrict__ partial) {
  constexpr int kLive = (kFilter + kStride - 1) / kStride;  // rows of dy that a row of x meets
  constexpr int kAhead = kStages<kStride> - 1;
  const GroupedPlan plan = wplan.cut;
  const int channel_tile = static_cast<int>(blockIdx.x) % plan.channel_tiles;
  const int split = static_cast<int>(blockIdx.x) / plan.channel_tiles;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int pitch = pitch_of(plan), columns = input_columns<kStride>(plan), stage = wgrad_stage_size<kStride>(plan);
  T* const ring = &shared_memory<T>();

  const int first_item = static_cast<int>(int64_t{split} * wplan.items / wplan.splits);
  const int last_item = static_cast<int>(int64_t{split + 1} * wplan.items / wplan.splits);
  const int item_steps = plan.rows + kLive - 1, steps = (last_item - first_item) * item_steps;

  const int first_channel = channel_tile * plan.chunks * kChunk;
  RowLoader<T> x_rows(x, 0, p.H, p.W, p.C, plan), dy_rows(dy, 0, p.P, p.Q, p.K, plan);
  GroupedPlace at = {};
  int next_item = first_item, next_row = 0;  // of `load`
  const auto load = [&](int step) {
    if (step < steps) {
      if (next_row == 0) {
        at = place_of(next_item * plan.channel_tiles + channel_tile, plan);
        x_rows.offset = at.n * p.x.n + first_channel;
        dy_rows.offset = at.n * p.y.n + first_channel;
      }
      T* const to = ring + step % kStages<kStride> * stage;
#pragma unroll 1
      for (int e = 0; e < kStride; ++e)
        x_rows.load(to + e * columns * pitch, (at.row + next_row) * kStride - p.pad_h + e, at.q * kStride - p.pad_w,
                    columns);
      dy_rows.load(to + kStride * columns * pitch, next_row < plan.rows ? at.row + next_row : -1, at.q,
                   plan.tiles * kMmaPixels);
      if (++next_row == item_steps) next_row = 0, ++next_item;
    }
    ptx::cp_async_commit();
  };
#pragma unroll 1
  for (int step = 0; step < kAhead; ++step) load(step);

  // Matrices of ldmatrix_x4_trans: the chunks of a pair at pixels 0 to 7, then at 8 to 15. Of ldmatrix_x2_trans: one
  // chunk at pixels 0 to 7 and 8 to 15.
  const int group_chunk = warp / kChunks * kChunks * kChunk;
  const int pair =
      (lane / 16 * 8 + lane % 8) * kStride * pitch + lane / 8 % 2 * (kChunks == 1 ? pitch : kChunk) + group_chunk;
  const int single = lane % 16 * kStride * pitch + group_chunk, dy_fragment = lane % 16 * pitch + warp * kChunk;

  float sum[kFilter][kSteps<kChunks>][4] = {};
  uint32_t b[kLive][kMaxTiles][2] = {};
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kAhead - 1>();
    __syncthreads();
    load(step + kAhead);
    const T* const rows = ring + step % kStages<kStride> * stage;
#pragma unroll
    for (int tile = 0; tile < kMaxTiles; ++tile) {
      if (tile >= plan.tiles) break;
#pragma unroll
      for (int j = kLive - 1; j > 0; --j) b[j][tile][0] = b[j - 1][tile][0], b[j][tile][1] = b[j - 1][tile][1];
      ptx::ldmatrix_x2_trans(b[0][tile], rows + (kStride * columns + tile * kMmaPixels) * pitch + dy_fragment);
#pragma unroll
      for (int e = 0; e < kStride; ++e) {
        const T* const pixels = rows + (e * columns + tile * kMmaPixels * kStride) * pitch;
#pragma unroll
        for (int i = 0; i < kSteps<kChunks>; ++i) {
          const T* const from = pixels + 2 * i / kChunks * pitch + 2 * i % kChunks * kChunk;
          uint32_t a[4] = {};
          if (2 * i + 1 < kFilter * kChunks) {
            ptx::ldmatrix_x4_trans(a, from + pair);
          } else {  // the last tap has no partner
            uint32_t alone[2];
            ptx::ldmatrix_x2_trans(alone, from + single);
            a[0] = alone[0], a[2] = alone[1];
          }
#pragma unroll
          for (int j = 0; j < kLive; ++j)
            if (e + j * kStride < kFilter) ptx::mma_m16n8k16<T>(sum[e + j * kStride][i], a, b[j][tile]);
        }
      }
    }
  }

  const int size = group_size<kChunks>(p);
  const int first_k = first_channel + warp * kChunk + lane % 4 * 2;
  float* const out = partial + int64_t{split} * p.K * kFilter * kFilter * size;
#pragma unroll
  for (int r = 0; r < kFilter; ++r)
#pragma unroll
    for (int i = 0; i < kSteps<kChunks>; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int m = 2 * i + j / 2, s = m / kChunks, k = first_k + j % 2;
        const int c = first_channel + group_chunk + m % kChunks * kChunk + lane / 4;
        if (s < kFilter && c / size == k / size)
          out[((int64_t{k} * kFilter + r) * kFilter + s) * size + c % size] = sum[r][i][j];
      }
}

}  // namespace
}  // namespace fastconv
