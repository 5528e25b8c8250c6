// Grouped fprop of dense 3x3 filters by tensor cores, and dgrad of unit stride, which is fprop of dy with the flipped
// filter.
//
// A step takes `stride` rows of the input. An input row is read from shared memory once, one ldmatrix for every two
// chunks of 16 pixels, and multiplied with the weights of every filter row that sees it: with R = 3 and unit stride
// three output rows are under way at a time. After a step the oldest is complete; it is staged in shared memory, and
// finished and stored after the next step's barrier.
//
// Floor: x and y once; 9 * C/groups products an output, of which tensor cores do 16 x 8 x 16 at a time. Planned: 64 to
// 128 registers, 39 KB of shared memory with unit stride and 64 channels, 75 KB with stride 2.
#pragma once

#include "conv/cuda/grouped_store.h"

namespace fastconv {
namespace {

/// Elements of a stage: the input rows of one step.
template <int kStride>
FASTCONV_HOST_DEVICE int stage_size(const GroupedPlan& plan) {
  return kStride * input_columns<kStride>(plan) * pitch_of(plan);
}

template <class T, int kChunks, int kStride>
__global__ void __launch_bounds__(kMaxThreads, kBlocksPerSM<kChunks>)
    grouped_fprop(const __grid_constant__ ConvShape p, const __grid_constant__ GroupedPlan plan,
                  const T* __restrict__ x, const __grid_constant__ Filter w, T* __restrict__ y,
                  const __grid_constant__ Epilogue epilogue) {
  constexpr int kLive = (kFilter + kStride - 1) / kStride;  // output rows under way
  constexpr int kAhead = kStages<kStride> - 1;
  const GroupedPlace at = place_of(static_cast<int>(blockIdx.x), plan);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int pitch = pitch_of(plan), columns = input_columns<kStride>(plan), stage = stage_size<kStride>(plan);
  T* const ring = &shared_memory<T>();
  float* const staging = reinterpret_cast<float*>(ring + kStages<kStride> * stage);
  const int staged = staged_size(plan, plan.tiles * kMmaPixels);

  const RowLoader<T> loader(x, at.n * p.x.n + at.channel, p.H, p.W, p.C, plan);
  const int first_h = at.row * kStride - p.pad_h, first_w = at.q * kStride - p.pad_w;
  const int rows = smaller(plan.rows, p.P - at.row), steps = rows + kLive - 1;
  const auto load = [&](int step) {
    if (step < steps)
#pragma unroll
      for (int e = 0; e < kStride; ++e)
        loader.load(ring + step % kStages<kStride> * stage + e * columns * pitch, first_h + step * kStride + e, first_w,
                    columns);
    ptx::cp_async_commit();
  };
#pragma unroll 1
  for (int step = 0; step < kAhead; ++step) load(step);

  uint32_t b[kFilter][kSteps<kChunks>][2] = {};
  load_weights<T, kChunks>(b, w, at.channel + warp * kChunk + lane / 4, p, false);

  // Matrices of ldmatrix_x4: pixels 0 to 7 and 8 to 15 of the first chunk of a pair, then of the second.
  const int half = lane / 16, next_chunk = kChunks == 1 ? pitch : kChunk;
  const int fragment = lane % 16 * kStride * pitch + half * next_chunk + warp / kChunks * kChunks * kChunk;
  const int width = smaller(plan.tiles * kMmaPixels, p.Q - at.q);
  const int corner = at.n * p.y.n + at.row * p.y.h + at.q * p.y.w + at.channel;
  const RowStorer<T, kMaxTiles * kMmaPixels> storer(y, epilogue, at.channel, plan.chunks, staging + 2 * staged);
  const auto store = [&](int row) {
    if (row < 0) return;
    const auto own = [&](int column, int k) {
      const TapAxis taps_h = {first_h + row * kStride, 1, kFilter, 0, 1};
      const TapAxis taps_w = {first_w + column * kStride, 1, kFilter, 0, 1};
      return plain_sums(x, at.n, p.H, p.W, p.C, w, k, p.C_per_group, taps_h, taps_w);
    };
    storer.store(corner + row * p.y.h, staging + row % 2 * staged, 0, width, p.K, group_size<kChunks>(p) < kChunk, own);
  };

  float sum[kLive][kMaxTiles][4] = {};
#pragma unroll 1
  for (int step = 0;; ++step) {
    ptx::cp_async_wait<kAhead - 1>();
    __syncthreads();
    store(step - kLive);
    if (step == steps) break;
    load(step + kAhead);
#pragma unroll
    for (int e = 0; e < kStride; ++e) {
      const T* const row = ring + step % kStages<kStride> * stage + e * columns * pitch + fragment;
#pragma unroll
      for (int tile = 0; tile < kMaxTiles; ++tile) {
        if (tile >= plan.tiles) break;
        const T* const pixels = row + tile * kMmaPixels * kStride * pitch;
#pragma unroll
        for (int i = 0; i < kSteps<kChunks>; ++i) {
          const T* const from = pixels + 2 * i / kChunks * pitch + 2 * i % kChunks * kChunk;
          uint32_t a[4] = {};
          if (2 * i + 1 < kFilter * kChunks) {
            ptx::ldmatrix_x4(a, from);
          } else {  // the last tap has no partner
            uint32_t alone[2];
            ptx::ldmatrix_x2(alone, from);
            a[0] = alone[0], a[1] = alone[1];
          }
#pragma unroll
          for (int j = 0; j < kLive; ++j)
            if (e + j * kStride < kFilter) ptx::mma_m16n8k16<T>(sum[j][tile], a, b[e + j * kStride][i]);
        }
      }
    }
    stage_oldest<T>(sum, staging + (step + kLive + 1) % 2 * staged, step >= kLive - 1, warp * kChunk, pitch,
                    plan.tiles);
  }
}

template <class T, int kChunks, int kStride>
void launch_grouped_fprop(const char* name, const ConvProblem& p, const void* x, const Filter& w,
                          const ConvArgs& args) {
  const GroupedPlan plan = plan_grouped(p, p.P, p.Q);
  const size_t ring = static_cast<size_t>(kStages<kStride> * stage_size<kStride>(plan)) * sizeof(T);
  const size_t staging =
      static_cast<size_t>(2 * staged_size(plan, plan.columns()) + affine_size(plan.chunks)) * sizeof(float);
  launch(name, p, grouped_fprop<T, kChunks, kStride>,
         {.grid = {static_cast<unsigned>(plan.blocks(p.N))},
          .block = {plan.threads()},
          .shared_bytes = ring + staging,
          .stream = args.stream},
         shape_of(p), plan, static_cast<const T*>(x), w, static_cast<T*>(args.out), args.epilogue);
}

}  // namespace
}  // namespace fastconv
