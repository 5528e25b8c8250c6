// Grouped dgrad of dense 3x3 filters and stride 2 by tensor cores: dx[c,h,w] = sum over k,r,s of dy[k,p,q] *
// w[k,c,r,s], 2 p = h + pad - r.
//
// In padded coordinates o = h + pad, row p of dy gives to rows 2 p, 2 p + 1 and 2 p + 2 of dx by r = 0, 1, 2, and so in
// columns. A step takes one row of dy, read from shared memory once, into the sums of three rows of dx: the first two
// are then complete (row 2 p had its r = 2 from the step before), the third is carried on. Even columns have the taps s
// = 0 of dy's column q and s = 2 of q - 1, odd ones s = 1 of q: a pixel of the products is a q, with a sum for each
// parity. No product is with a hole between dy's pixels.
//
// Floor: dy and dx once. Planned: at most 128 registers; 93 KB of shared memory with 64 channels, of which 74 KB are
// staged rows of dx, and 47 KB where dy has at most 16 columns.
#pragma once

#include <utility>

#include "conv/cuda/grouped_store.h"

namespace fastconv {
namespace {

constexpr int kDgradStages = 4;

/// The q whose pair 2 q, 2 q + 1 has a pixel of dx, in padded coordinates, along one axis. dy may lack some: zeros.
struct HalfRange {
  int first, count;
};
inline HalfRange half_range(int64_t pad, int64_t extent) {
  const auto floor_half = [](int64_t a) { return static_cast<int>(a >= 0 ? a / 2 : -((1 - a) / 2)); };
  const int first = floor_half(pad), last = floor_half(pad + extent - 1);
  return {first, extent == 0 ? 0 : last - first + 1};
}

/// The taps of dy that padded coordinate `o` of dx has.
__device__ __forceinline__ TapAxis half_taps(int o) {
  const int parity = o & 1;
  return {(o - parity) / 2, -1, 2 - parity, parity, 2};
}

FASTCONV_HOST_DEVICE int dgrad_stage_size(const GroupedPlan& plan) {
  return (plan.tiles * kMmaPixels + 1) * pitch_of(plan);
}

template <class T, int kChunks>
__global__ void __launch_bounds__(kMaxThreads, 2)
    grouped_dgrad(const __grid_constant__ ConvShape p, const __grid_constant__ GroupedPlan plan,
                  const __grid_constant__ HalfRange rows_of_dy, const __grid_constant__ HalfRange columns_of_dy,
                  const T* __restrict__ dy, const __grid_constant__ Filter w, T* __restrict__ dx,
                  const __grid_constant__ Epilogue epilogue) {
  constexpr int kAhead = kDgradStages - 1, kParities = 2;
  const GroupedPlace at = place_of(static_cast<int>(blockIdx.x), plan);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int pitch = pitch_of(plan), stage = dgrad_stage_size(plan), columns = plan.tiles * kMmaPixels;
  T* const ring = &shared_memory<T>();
  float* const staging = reinterpret_cast<float*>(ring + kDgradStages * stage);
  const int staged = staged_size(plan, 2 * columns);

  // The step before the first row makes what that row has by r = 2.
  const RowLoader<T> loader(dy, at.n * p.y.n + at.channel, p.P, p.Q, p.K, plan);
  const int first_p = rows_of_dy.first + at.row - 1, first_q = columns_of_dy.first + at.q;
  const int steps = smaller(plan.rows, rows_of_dy.count - at.row) + 1;
  const auto load = [&](int step) {
    if (step < steps) loader.load(ring + step % kDgradStages * stage, first_p + step, first_q - 1, columns + 1);
    ptx::cp_async_commit();
  };
#pragma unroll 1
  for (int step = 0; step < kAhead; ++step) load(step);

  uint32_t b[kFilter][kSteps<kChunks>][2] = {};
  load_weights<T, kChunks>(b, w, at.channel + warp * kChunk + lane / 4, p, true);

  // Columns of dx in the strip that exist, and its rows.
  const int first_w = 2 * first_q - p.pad_w, first_h = 2 * first_p - p.pad_h;
  const int from = first_w < 0 ? -first_w : 0, to = smaller(2 * columns, p.W - first_w);
  const int image = at.n * p.x.n + at.channel;
  const RowStorer<T, kParities * kMaxTiles * kMmaPixels> storer(dx, epilogue, at.channel, plan.chunks,
                                                                staging + 2 * kParities * staged);
  const auto store = [&](int step) {
    if (step < 1) return;  // before step 1 nothing is complete but rows of the band before, which has them
#pragma unroll 1
    for (int i = 0; i < 2; ++i) {
      const int h = first_h + 2 * step + i;
      if (h < 0 || h >= p.H) continue;
      const auto own = [&](int column, int c) {
        return plain_sums(dy, at.n, p.P, p.Q, p.K, w, c, p.K_per_group, half_taps(h + p.pad_h),
                          half_taps(first_w + column + p.pad_w));
      };
      storer.store(image + h * p.x.h + first_w * p.x.w, staging + (step % 2 * 2 + i) * staged, from, to, p.C,
                   group_size<kChunks>(p) < kChunk, own);
    }
  };

  // Matrices of ldmatrix_x4: pixels 0 to 7 and 8 to 15 of the first chunk of a pair, then of the second. With one chunk
  // a tap the pair is columns q and q - 1.
  const int fragment =
      (lane % 16 + 1) * pitch + lane / 16 * (kChunks == 1 ? -pitch : kChunk) + warp / kChunks * kChunks * kChunk;
  float sum[kFilter][kParities][kMaxTiles][4] = {};
#pragma unroll 1
  for (int step = 0;; ++step) {
    ptx::cp_async_wait<kAhead - 1>();
    __syncthreads();
    store(step - 1);
    if (step == steps) break;
    load(step + kAhead);
    float* const pixel =
        staging + step % 2 * 2 * staged + lane / 4 * 2 * pitch + staged_place<T>(warp * kChunk + lane % 4 * 2, pitch);
#pragma unroll
    for (int tile = 0; tile < kMaxTiles; ++tile) {
      if (tile >= plan.tiles) break;
      const T* const row = ring + step % kDgradStages * stage + tile * kMmaPixels * pitch + fragment;
      uint32_t a[kSteps<kChunks>][4];
#pragma unroll
      for (int i = 0; i < kSteps<kChunks>; ++i) {
        const int tap = 2 * i / kChunks;  // the taps s = 0, 2, 1 in this order; s = 1 sees what s = 0 saw
        if (tap < 2) {
          ptx::ldmatrix_x4(a[i], row - tap * pitch + 2 * i % kChunks * kChunk);
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) a[i][j] = kChunks == 1 && j >= 2 ? 0 : a[i - kChunks][j];
        }
#pragma unroll
        for (int r = 0; r < kFilter; ++r) ptx::mma_m16n8k16<T>(sum[r][tap / 2][tile], a[i], b[r][i]);
      }
#pragma unroll
      for (int parity = 0; parity < kParities; ++parity) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float* const out = pixel + i * staged + (tile * kMmaPixels * 2 + parity) * pitch;
          stage_pair(out, sum[i][parity][tile][0], sum[i][parity][tile][1]);
          stage_pair(out + 2 * 8 * pitch, sum[i][parity][tile][2], sum[i][parity][tile][3]);
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[0][parity][tile][i] = sum[2][parity][tile][i];
          sum[1][parity][tile][i] = sum[2][parity][tile][i] = 0;
        }
      }
    }
  }
}

template <class T, int kChunks>
void launch_grouped_dgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  const HalfRange rows = half_range(p.pad_h, p.H), columns = half_range(p.pad_w, p.W);
  const GroupedPlan plan = plan_grouped(p, rows.count, columns.count);
  const size_t ring = static_cast<size_t>(kDgradStages * dgrad_stage_size(plan)) * sizeof(T);
  const size_t staging =
      static_cast<size_t>(4 * staged_size(plan, 2 * plan.columns()) + affine_size(plan.chunks)) * sizeof(float);
  Filter turned = args.w;  // the channel summed over is K
  std::swap(turned.stride_k, turned.stride_c);
  launch(name, p, grouped_dgrad<T, kChunks>,
         {.grid = {static_cast<unsigned>(plan.blocks(p.N))},
          .block = {plan.threads()},
          .shared_bytes = ring + staging,
          .stream = args.stream},
         shape_of(p), plan, rows, columns, static_cast<const T*>(args.dy), turned, static_cast<T*>(args.out),
         args.epilogue);
}

}  // namespace
}  // namespace fastconv
