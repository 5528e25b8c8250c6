// Grouped fprop and dgrad of filters up to 7x7, dilated too, and in TF32: all but the dense 3x3 filters of 16-bit
// elements, for which grouped_fprop.h and grouped_dgrad.h are.
//
// As there a block walks down a strip whose rows come through a ring in shared memory, and an input row is read from it
// once and multiplied with every filter row that sees it. But the weights lie in shared memory, in the order of an
// mma's registers: a lane reads what it wrote. Only the height of the filter is constant, kRows or up to two less; a
// loop goes over the pairs of chunks of a filter row, 16 bytes each: two chunks are the depth of m16n8k16 and of
// m16n8k8 in TF32.
//
// What is not a dense convolution of whole rows is cut into phases that are (grouped_phases.h). The phases of a strip
// follow one another in the grid: they find their input in L2.
//
// Floor: x and y once; R * S * C/groups products an output. A pair of chunks of two tiles is 2 reads of 512 bytes, R of
// 256 and 2 R products. Planned: at most 128 registers, a few more for 7 rows, whose blocks have 128 threads; shared
// memory for two or three blocks of 64 or 32 channels a multiprocessor, of 16 where the weights are many.
#pragma once

#include <utility>

#include "conv/cuda/grouped_phases.h"
#include "conv/cuda/grouped_store.h"

namespace fastconv {
namespace {

/// B of one mma: a lane's two registers.
using WeightPair = Pack<uint32_t, 2>;

/// How the outputs of a phase are cut. The phases share a plan: its extents are the largest of theirs.
struct TapsPlan {
  int out_channels, in_channels;  // of a block: 8 of the output's a warp
  int window, window_log2;        // chunks that an output channel sees: of its group, or of both in its 8 channels
  int channel_tiles, tiles, strips, rows, bands;
  int columns, pitch;           // of a staged row of the input: its pixels, and elements from one to the next
  int weights, stage, staging;  // WeightPairs; elements of a stage of the ring; floats of a staged row of the output
  size_t shared_bytes;

  int64_t blocks(int64_t N, int phases) const { return N * bands * strips * phases * channel_tiles; }
  unsigned threads() const { return static_cast<unsigned>(out_channels / kChunk * kWarpSize); }
};

/// Shared memory of a block where three share a multiprocessor of sm_90 and two one of sm_80, and all that it has on
/// sm_86.
constexpr size_t kFairShared = 73 * 1024, kMostShared = 99 * 1024;

template <class T>
TapsPlan cut_channels(const TapsShape& p, int out_channels, int tiles) {
  constexpr int kLanes = kPackLanes<T>;
  TapsPlan plan = {};
  const int seen = std::max(p.group, kChunk);
  plan.out_channels = out_channels;
  plan.in_channels = std::max(out_channels, seen);
  plan.window = seen / kLanes;
  while (1 << plan.window_log2 < plan.window) ++plan.window_log2;
  plan.channel_tiles = p.channels / out_channels;
  plan.tiles = tiles;
  const int taps_h = p.most_taps_h(), taps_w = p.most_taps_w(), width = plan.tiles * kMmaPixels;
  plan.columns = (width - 1) * p.column_step + std::max(taps_w - 1, 0) * p.tap_step + 1;
  plan.pitch = plan.in_channels + kLanes;
  plan.weights = taps_h * ((taps_w * plan.window + 1) / 2) * static_cast<int>(plan.threads());
  plan.stage = p.stride * plan.columns * plan.pitch;
  plan.staging = width * pitch_of(out_channels / kChunk);
  const int stages = p.stride == 1 ? kStages<1> : kStages<2>;
  plan.shared_bytes = static_cast<size_t>(plan.weights) * sizeof(WeightPair) +
                      static_cast<size_t>(stages * plan.stage) * sizeof(T) +
                      static_cast<size_t>(2 * plan.staging + affine_size(out_channels / kChunk)) * sizeof(float);
  return plan;
}

template <class T>
TapsPlan plan_taps(const TapsShape& p, int64_t N) {
  constexpr int kEnoughBlocks = 1024, kLowestBand = 16;
  const auto ceil_div = [](int a, int b) { return (a + b - 1) / b; };
  int channels = p.channels % 64 == 0 ? 64 : 32, tiles = p.most_columns() <= kMmaPixels ? 1 : kMaxTiles;
  TapsPlan plan = cut_channels<T>(p, channels, tiles);
  while (channels > kChunk && plan.shared_bytes > (channels > 32 ? kFairShared : kMostShared))
    plan = cut_channels<T>(p, channels /= 2, tiles);
  if (plan.shared_bytes > kMostShared) plan = cut_channels<T>(p, channels, 1);
  const int height = p.most_rows();
  plan.strips = ceil_div(p.most_columns(), plan.tiles * kMmaPixels);
  plan.rows = std::max(height, 1);
  plan.bands = ceil_div(height, plan.rows);
  while (plan.blocks(N, p.phases) < kEnoughBlocks && plan.rows > kLowestBand) {
    plan.rows = (plan.rows + 1) / 2;
    plan.bands = ceil_div(height, plan.rows);
  }
  return plan;
}

/// Two chunks of 16 pixels; floats are rounded.
template <class T>
__device__ __forceinline__ void load_chunks(uint32_t (&a)[4], const T* from) {
  ptx::ldmatrix_x4(a, from);
  if constexpr (std::is_same_v<T, float>) {
#pragma unroll
    for (uint32_t& bits : a) bits = ptx::to_tf32(float_of(bits));
  }
}

/// A lane's share of chunk `m` of filter row `r`, for output channel `k`: a register of B.
template <class T>
__device__ __forceinline__ uint32_t weight_of(const Filter& w, const TapsShape& p, const TapsPhase& phase, int window,
                                              int k, int r, int m) {
  constexpr int kLanes = kPackLanes<T>, kShare = kLanes / 4;
  const int tap = m / window, seen = window * kLanes, group = k / p.group;
  const int first = k / seen * seen + m % window * kLanes + static_cast<int>(threadIdx.x) % 4 * kShare;
  if (tap >= phase.taps_w || first / p.group != group) return 0;
  const T* const at = static_cast<const T*>(w.data) +
                      w.offset(group, k % p.group, first % p.group, 0, phase.r + r * p.tap_r, phase.s + tap * p.tap_r);
  if constexpr (std::is_same_v<T, float>) {
    return ptx::to_tf32(*at);
  } else {
    static_assert(kShare == 2);
    return static_cast<uint32_t>(at[0].bits) | static_cast<uint32_t>(at[w.stride_c].bits) << 16;
  }
}

template <class T, int kRows, int kStride>
__global__ void __launch_bounds__(kMaxThreads, kRows > 5 ? 1 : 2)
    grouped_taps(const __grid_constant__ TapsShape p, const __grid_constant__ TapsPlan plan, const T* __restrict__ in,
                 const __grid_constant__ Filter w, T* __restrict__ out, const __grid_constant__ Epilogue epilogue) {
  constexpr int kLanes = kPackLanes<T>, kAhead = kStages<kStride> - 1;
  constexpr int kLive = (kRows + kStride - 1) / kStride;  // output rows under way
  int block = static_cast<int>(blockIdx.x);
  const int channel = block % plan.channel_tiles * plan.out_channels;
  block /= plan.channel_tiles;
  const TapsPhase& phase = p.at[block % p.phases];
  block /= p.phases;
  const int first_column = block % plan.strips * plan.tiles * kMmaPixels;
  block /= plan.strips;
  const int first_row = block % plan.bands * plan.rows, n = block / plan.bands;
  const int rows = smaller(plan.rows, phase.rows - first_row);
  const int width = smaller(plan.tiles * kMmaPixels, phase.columns - first_column);
  if (rows <= 0 || width <= 0) return;  // the phase is smaller than the largest

  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int threads = plan.out_channels / kChunk * kWarpSize, pitch = plan.pitch, tap_pitch = p.tap_step * pitch;
  WeightPair* const weights = &shared_memory<WeightPair>();
  T* const ring = reinterpret_cast<T*>(weights + plan.weights);
  float* const staging = reinterpret_cast<float*>(ring + kStages<kStride> * plan.stage);

  const int in_channel = channel / plan.in_channels * plan.in_channels;
  const RowLoader<T> loader(in, n * p.in_image + in_channel, p.in_h, p.in_w, p.channels, plan.in_channels / kLanes,
                            pitch, threads / (plan.in_channels / kLanes));
  const int last_rows = (phase.taps_h + kStride - 1) / kStride - 1;  // steps that begin no row of the output
  const auto load = [&](int step) {
    if (step < rows + last_rows)
#pragma unroll
      for (int e = 0; e < kStride; ++e)
        if (e < phase.taps_h)
          loader.load(ring + step % kStages<kStride> * plan.stage + e * plan.columns * pitch,
                      phase.in_h + ((first_row + step) * kStride + e) * p.row_step,
                      phase.in_w + first_column * p.column_step, plan.columns);
    ptx::cp_async_commit();
  };
#pragma unroll 1
  for (int step = 0; step < kAhead; ++step) load(step);

  const int chunks = phase.taps_h > 0 ? phase.taps_w * plan.window : 0, pairs = (chunks + 1) / 2;
  const int first_output = channel + warp * kChunk, k = first_output + lane / 4;
#pragma unroll 1
  for (int r = 0; r < phase.taps_h; ++r)
#pragma unroll 4
    for (int i = 0; i < pairs; ++i)
      weights[(r * pairs + i) * threads + static_cast<int>(threadIdx.x)] = {
          weight_of<T>(w, p, phase, plan.window, k, r, 2 * i), weight_of<T>(w, p, phase, plan.window, k, r, 2 * i + 1)};

  const int seen = plan.window * kLanes;
  const int fragment = lane % kMmaPixels * p.column_step * pitch + first_output / seen * seen - in_channel;
  const int corner = n * p.out_image + (phase.out_h + first_row * p.out_step_h) * p.out_row +
                     (phase.out_w + first_column * p.out_step_w) * p.channels + channel;
  const RowStorer<T, kMaxTiles * kMmaPixels> storer(out, epilogue, channel, plan.out_channels / kChunk,
                                                    staging + 2 * plan.staging);
  const auto store = [&](int row) {
    if (row < 0) return;
    const auto own = [&](int column, int c) {
      const TapAxis taps_h = {phase.in_h + (first_row + row) * kStride * p.row_step, p.row_step, phase.taps_h, phase.r,
                              p.tap_r};
      const TapAxis taps_w = {phase.in_w + (first_column + column) * p.column_step, p.tap_step, phase.taps_w, phase.s,
                              p.tap_r};
      return plain_sums(in, n, p.in_h, p.in_w, p.channels, w, c, p.group, taps_h, taps_w);
    };
    storer.store(corner + row * p.out_step_h * p.out_row, staging + row % 2 * plan.staging, 0, width,
                 p.out_step_w * p.channels, p.group < kChunk, own);
  };

  float sum[kLive][kMaxTiles][4] = {};
#pragma unroll 1
  for (int step = 0, steps = rows + kLive - 1;; ++step) {
    ptx::cp_async_wait<kAhead - 1>();
    __syncthreads();
    store(step - kLive);
    if (step == steps) break;
    load(step + kAhead);
#pragma unroll
    for (int e = 0; e < kStride; ++e) {
      if (e >= phase.taps_h || step >= rows + last_rows) continue;
      const T* const row = ring + step % kStages<kStride> * plan.stage + e * plan.columns * pitch + fragment;
      const WeightPair* b_at = weights + e * pairs * threads + threadIdx.x;
#pragma unroll 1
      for (int i = 0; i < pairs; ++i, b_at += threads) {
        // Matrices of ldmatrix_x4: pixels 0 to 7 and 8 to 15 of the first chunk, then of the second.
        const int chunk = smaller(2 * i + lane / kMmaPixels, chunks - 1);
        const T* const from = row + (chunk >> plan.window_log2) * tap_pitch + (chunk & (plan.window - 1)) * kLanes;
        uint32_t a[kMaxTiles][4] = {};
#pragma unroll
        for (int tile = 0; tile < kMaxTiles; ++tile) {
          if (tile >= plan.tiles) break;
          load_chunks(a[tile], from + tile * kMmaPixels * p.column_step * pitch);
          if (2 * i + 1 == chunks) a[tile][2] = a[tile][3] = 0;  // the last chunk has no partner
        }
#pragma unroll
        for (int j = 0; j < kLive; ++j) {
          const int r = e + j * kStride;
          if (r >= kRows || (r >= kRows - 2 && r >= phase.taps_h)) continue;
          const WeightPair b = b_at[j * kStride * pairs * threads];
#pragma unroll
          for (int tile = 0; tile < kMaxTiles; ++tile) {
            if (tile >= plan.tiles) break;
            multiply_chunks<T>(sum[j][tile], a[tile], b.at);
          }
        }
      }
    }
    stage_oldest<T>(sum, staging + (step + kLive + 1) % 2 * plan.staging, step >= kLive - 1, warp * kChunk,
                    storer.pitch, plan.tiles);
  }
}

template <class T, int kRows, int kStride>
void launch_taps(const char* name, const ConvProblem& p, const TapsShape& shape, const void* in, const Filter& w,
                 const ConvArgs& args) {
  const TapsPlan plan = plan_taps<T>(shape, p.N);
  launch(name, p, grouped_taps<T, kRows, kStride>,
         {.grid = {static_cast<unsigned>(plan.blocks(p.N, shape.phases))},
          .block = {plan.threads()},
          .shared_bytes = plan.shared_bytes,
          .stream = args.stream},
         shape, plan, static_cast<const T*>(in), w, static_cast<T*>(args.out), args.epilogue);
}

/// kRows is the odd number at or above the largest height of a phase: the others are at most two less.
template <class T, int kStride>
void launch_taps(const char* name, const ConvProblem& p, const TapsShape& shape, const void* in, const Filter& w,
                 const ConvArgs& args) {
  switch (shape.most_taps_h() / 2) {
    case 0: return launch_taps<T, 1, kStride>(name, p, shape, in, w, args);
    case 1: return launch_taps<T, 3, kStride>(name, p, shape, in, w, args);
    case 2: return launch_taps<T, 5, kStride>(name, p, shape, in, w, args);
    case 3: return launch_taps<T, 7, kStride>(name, p, shape, in, w, args);
  }
}

template <class T>
void run_taps_fprop(const char* name, const ConvProblem& p, const ConvArgs& args) {
  if (p.stride_h == 1) launch_taps<T, 1>(name, p, fprop_taps(p), args.x, args.w, args);
  else launch_taps<T, 2>(name, p, fprop_taps(p), args.x, args.w, args);
}

template <class T>
void run_taps_dgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  if (p.stride_h == 1) return launch_taps<T, 1>(name, p, fprop_taps(adjoint(p)), args.dy, adjoint(args.w, p), args);
  Filter turned = args.w;  // the channel summed over is K
  std::swap(turned.stride_k, turned.stride_c);
  launch_taps<T, 1>(name, p, dgrad_taps(p), args.dy, turned, args);
}

}  // namespace
}  // namespace fastconv
