// Implicit GEMM for wgrad: gemm_m are the filters of a group, gemm_n taps by channels, gemm_k the output's pixels.
//
// dy is a matrix of gemm_k x gemm_m as it lies; that of gemm_k x gemm_n is gathered from x chunk by chunk. Both are
// fastest along m and n, so that ldmatrix transposes them. A thread copies the same chunk, hence the same tap and
// channels, of several pixels, whose places it works out anew for each stage.
//
// The few tiles of dw do not fill a GPU: the pixels are split among blocks, whose sums lie in the workspace as floats
// [split][K][T R S C/groups] until add_splits.h adds them. Blocks of one split follow one another in the grid: they
// share their pixels.
#pragma once

#include "conv/cuda/add_splits.h"
#include "conv/cuda/igemm_plan.h"
#include "conv/cuda/igemm_tile.h"

namespace fastconv {
namespace {

/// One plan for the workspace and for the launch.
struct IgemmWgradPlan {
  bool large;  // tiles of 128 x 128, else 64 x 64
  int splits, split_pixels;

  explicit IgemmWgradPlan(const ConvProblem& p) {
    constexpr int64_t kBlocks = 256;        // two a multiprocessor
    constexpr int64_t kFewestPixels = 128;  // below, a split costs more than it gives
    const int64_t gemm_n = p.T * p.R * p.S * p.C_per_group(), pixels = p.N * p.Z * p.P * p.Q;
    const auto tiles = [&](int64_t tile) {
      return ((p.K_per_group() + tile - 1) / tile) * ((gemm_n + tile - 1) / tile) * p.groups;
    };
    const int64_t most = std::max<int64_t>(pixels / kFewestPixels, 1);
    large = p.K_per_group() > 64 && gemm_n > 64 && tiles(128) * most >= kBlocks;
    const int64_t want = std::clamp<int64_t>(kBlocks / tiles(large ? 128 : 64), 1, most);
    // Whole stages of either element.
    split_pixels = static_cast<int>(((pixels + want - 1) / want + 31) / 32 * 32);
    splits = static_cast<int>(std::max<int64_t>((pixels + split_pixels - 1) / std::max(split_pixels, 1), 1));
  }
};

/// x and dy are of the whole batch; phase is fprop's.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    igemm_wgrad(const __grid_constant__ IgemmShape p, const __grid_constant__ IgemmPhase phase, int split_pixels,
                const typename Tile::T* __restrict__ x, const typename Tile::T* __restrict__ dy,
                float* __restrict__ partial) {
  using T = typename Tile::T;
  constexpr int kLanes = Tile::kLanes;
  const int filters = p.gemm_n, gemm_n = p.filter_row, tiles_n = (gemm_n + Tile::kN - 1) / Tile::kN;
  const int block_m = static_cast<int>(blockIdx.x) / tiles_n * Tile::kM;
  const int block_n = static_cast<int>(blockIdx.x) % tiles_n * Tile::kN;
  const int group = static_cast<int>(blockIdx.y), split = static_cast<int>(blockIdx.z);
  const int first_pixel = split * split_pixels, left = phase.gemm_m - first_pixel;
  const int end_pixel = first_pixel + (left < split_pixels ? left : split_pixels);

  const int thread = static_cast<int>(threadIdx.x);
  constexpr int kAcrossM = Tile::kM / kLanes, kRowsM = Tile::kThreads / kAcrossM;
  constexpr int kAcrossN = Tile::kN / kLanes, kRowsN = Tile::kThreads / kAcrossN;
  static_assert(Tile::kDepth % kRowsM == 0 && Tile::kDepth % kRowsN == 0);
  const int m = block_m + thread % kAcrossM * kLanes, n = block_n + thread % kAcrossN * kLanes;
  const bool inside_m = m < filters, inside_n = n < gemm_n;
  const T* dy_at = dy + group * filters + m;
  const int tap = n / p.channels;
  const int d = phase.d.origin + tap / p.S / p.R * phase.d.tap_step;
  const int h = phase.h.origin + tap / p.S % p.R * phase.h.tap_step;
  const int w = phase.w.origin + tap % p.S * phase.w.tap_step;
  const T* x_at = x + group * p.channels + n % p.channels;

  int pixel = first_pixel;
  const auto load = [&](typename Tile::Stage& stage) {
#pragma unroll
    for (int i = 0; i < Tile::kDepth; i += kRowsM) {
      const int row = i + thread / kAcrossM;
      const bool valid = inside_m && pixel + row < end_pixel;
      ptx::cp_async<16>(stage.a.at + Tile::A::place(row, thread % kAcrossM),
                        valid ? dy_at + int64_t{pixel + row} * p.out_channels : dy, valid);
    }
#pragma unroll
    for (int i = 0; i < Tile::kDepth; i += kRowsN) {
      const int row = i + thread / kAcrossN;
      const IgemmPixel at = pixel_of(phase, pixel + row);
      const int id = at.d * phase.d.stride + d, ih = at.h * phase.h.stride + h, iw = at.w * phase.w.stride + w;
      const bool valid = inside_n && pixel + row < end_pixel && id >= 0 && id < p.in_d && ih >= 0 && ih < p.in_h &&
                         iw >= 0 && iw < p.in_w;
      const int in_pixel = valid ? ((at.n * p.in_d + id) * p.in_h + ih) * p.in_w + iw : 0;
      ptx::cp_async<16>(stage.b.at + Tile::B::place(row, thread % kAcrossN),
                        valid ? x_at + int64_t{in_pixel} * p.in_channels : x, valid);
    }
    pixel += Tile::kDepth;
  };
  typename Tile::Sums sum;
  igemm_sums<Tile>((end_pixel - first_pixel + Tile::kDepth - 1) / Tile::kDepth, load, sum);

  const int lane = thread % kWarpSize;
  const int64_t all_filters = p.out_channels;
  float* out = partial + (split * all_filters + group * filters) * gemm_n;
#pragma unroll
  for (int i = 0; i < Tile::kWarpM / 16; ++i)
#pragma unroll
    for (int j = 0; j < Tile::kWarpN / 8; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = block_m + Tile::warp_m() + 16 * i + 8 * half + lane / 4;
        const int column = block_n + Tile::warp_n() + 8 * j + lane % 4 * 2;
        if (row < filters && column < gemm_n)
          store_pack(out + int64_t{row} * gemm_n + column,
                     Pack<float, 2>{sum[i][j][2 * half], sum[i][j][2 * half + 1]});
      }
}

inline size_t igemm_wgrad_bytes(const ConvProblem& p) {
  return static_cast<size_t>(IgemmWgradPlan(p).splits * p.w_elements()) * sizeof(float);
}

template <class T, int kExtent>
void launch_igemm_wgrad(const char* name, const ConvProblem& p, const ConvArgs& args, const IgemmWgradPlan& plan) {
  using Tile = IgemmTile<T, kExtent, kExtent, 2, 2, 4, true, true>;
  static_assert(blocks_fit(sizeof(typename Tile::Stage) * Tile::kStages, Tile::kBlocksPerSm));
  const IgemmShape shape = igemm_shape(p, false);
  const auto tiles = [](int extent) { return static_cast<unsigned>((int64_t{extent} + kExtent - 1) / kExtent); };
  launch(name, p, igemm_wgrad<Tile>,
         {.grid = {tiles(shape.gemm_n) * tiles(shape.filter_row), static_cast<unsigned>(p.groups),
                   static_cast<unsigned>(plan.splits)},
          .block = {Tile::kThreads},
          .shared_bytes = sizeof(typename Tile::Stage) * Tile::kStages,
          .stream = args.stream},
         shape, fprop_phase(p), plan.split_pixels, static_cast<const T*>(args.x), static_cast<const T*>(args.dy),
         static_cast<float*>(args.workspace));
}

template <class T>
void run_igemm_wgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  const IgemmWgradPlan plan(p);
  if (plan.large) launch_igemm_wgrad<T, 128>(name, p, args, plan);
  else launch_igemm_wgrad<T, 64>(name, p, args, plan);
  launch_add_splits(name, p, args, plan.splits, p.w_elements() / 4, WriteChannels<T>{shape_of(p), args.w});
}

}  // namespace
}  // namespace fastconv
