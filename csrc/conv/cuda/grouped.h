// What the grouped convolution kernels share: 4, 8, 16 or 32 channels a group, NHWC, tensor cores. grouped_fprop.h,
// grouped_dgrad.h and grouped_wgrad.h are for dense 3x3 filters of 16-bit elements, with all taps unrolled;
// grouped_taps.h and grouped_taps_wgrad.h are for the other filters and for TF32.
//
// A block takes 32 or 64 channels, a strip of 16 or 32 columns, and walks down the image. Rows of the strip come
// through cp.async into a ring of stages in shared memory, so that every activation is read once but for the halo. A
// warp has 8 output channels; the taps and channels that they see are cut into chunks of 8 channels of one tap, 16
// bytes of a pixel in shared memory, and two chunks are the 16 of m16n8k16. With 4 channels a group the 8 channels are
// two groups and their weights block-diagonal: half of the products are with zeros. Tensor cores have time for them:
// memory bounds the kernels, and next to it the instructions around the products. Zero times infinity is NaN, so a sum
// that is NaN is made once more from its own group alone. The weights of a 3x3 filter stay in registers for the whole
// block.
//
// A pixel has a pitch of 8 elements more than its channels: 8 neighbouring pixels then lie in different banks.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "conv/cuda/shape.h"
#include "core/cuda/epilogue.h"
#include "core/cuda/launch.h"
#include "core/cuda/ptx.h"
#include "core/cuda/vector.h"

namespace fastconv {
namespace {

constexpr int kFilter = 3;  // R and S of the unrolled kernels
constexpr int kMostTaps = 7, kMostDilation = 4;
constexpr int kChunk = 8;  // channels in 16 bytes of 16-bit elements; channels of the output a warp
constexpr int kMaxThreads = 256;
constexpr int kMmaPixels = 16;
constexpr int kMaxTiles = 2;  // of 16 columns in a strip

/// Chunks a tap: of 4 and 8 channels a group 1, of 16 2, of 32 4.
inline int chunks_a_tap(const ConvProblem& p) {
  return static_cast<int>(std::max<int64_t>(p.C_per_group() / kChunk, 1));
}
/// Products of a filter row: its chunks in pairs, the last alone where they are odd.
template <int kChunks>
constexpr int kSteps = (kFilter * kChunks + 1) / 2;
/// Registers for kMaxThreads, so that two or three blocks share a multiprocessor.
template <int kChunks>
constexpr int kBlocksPerSM = kChunks == 4 ? 2 : 3;

/// What every dtype asks for.
inline const char* grouped_shape_why_not(const ConvProblem& p) {
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes NHWC only";
  if (!p.is_2d()) return "takes two spatial axes";
  const int64_t c = p.C_per_group();
  if (p.C != p.K || p.groups == 1 || (c != 4 && c != 8 && c != 16 && c != 32))
    return "takes groups of 4, 8, 16 or 32 channels in and as many out";
  if (p.C % 32 != 0) return "takes channels in multiples of 32";
  if (p.R > kMostTaps || p.S > kMostTaps) return "takes filters up to 7x7";
  if (p.stride_h != p.stride_w || p.stride_h > 2) return "takes strides of 1 and 2";
  if (p.dilation_h > kMostDilation || p.dilation_w > kMostDilation) return "takes dilations up to 4";
  if (p.stride_h != 1 && (p.dilation_h != 1 || p.dilation_w != 1)) return "takes dilated filters of unit stride only";
  return nullptr;
}
inline const char* grouped_half_why_not(const ConvProblem& p) {
  if (const char* reason = too_large(p)) return reason;
  if (p.dtype != DType::kFloat16 && p.dtype != DType::kBFloat16) return "takes float16 and bfloat16 only";
  return grouped_shape_why_not(p);
}
inline const char* grouped_tf32_why_not(const ConvProblem& p) {
  if (const char* reason = too_large(p)) return reason;
  return p.dtype == DType::kFloat32 ? grouped_shape_why_not(p) : "takes float32 only";
}

inline bool is_dense_3x3(const ConvProblem& p) {
  return p.R == kFilter && p.S == kFilter && p.dilation_h == 1 && p.dilation_w == 1;
}

/// Calls `body` with a constant of 1, 2 or 4.
template <class Body>
void with_chunks(const ConvProblem& p, Body&& body) {
  switch (chunks_a_tap(p)) {
    case 1: return body(std::integral_constant<int, 1>{});
    case 2: return body(std::integral_constant<int, 2>{});
    case 4: return body(std::integral_constant<int, 4>{});
  }
}
/// Calls `body(T{})` with the 16-bit element type.
template <class Body>
void with_half(DType dtype, Body&& body) {
  if (dtype == DType::kBFloat16) body(BFloat16{});
  else body(Float16{});
}

/// How the pixels of one side are cut. A block has 32 threads for each of its chunks of channels.
struct GroupedPlan {
  int chunks;         // of a block's channels: 4 or 8
  int channel_tiles;  // blocks along the channels
  int tiles;          // of 16 columns: 1 or 2
  int strips, rows, bands;

  int columns() const { return tiles * kMmaPixels; }
  int64_t blocks(int64_t N) const { return N * bands * strips * channel_tiles; }
  unsigned threads() const { return static_cast<unsigned>(chunks * kWarpSize); }
};

/// `height` x `width` pixels to be made. Bands as high as leave enough blocks: a band begins by reading its halo again
/// and gathering its weights.
inline GroupedPlan plan_grouped(const ConvProblem& p, int64_t height, int64_t width) {
  constexpr int kEnoughBlocks = 1024, kLowestBand = 8;
  const auto ceil_div = [](int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); };
  GroupedPlan plan = {};
  plan.chunks = p.C % 64 == 0 ? 8 : 4;
  plan.channel_tiles = static_cast<int>(p.C / (plan.chunks * kChunk));
  plan.tiles = width <= kMmaPixels ? 1 : kMaxTiles;
  plan.strips = ceil_div(width, plan.columns());
  plan.rows = static_cast<int>(std::max<int64_t>(height, 1));
  plan.bands = ceil_div(height, plan.rows);
  while (plan.blocks(p.N) < kEnoughBlocks && plan.rows > kLowestBand) {
    plan.rows = (plan.rows + 1) / 2;
    plan.bands = ceil_div(height, plan.rows);
  }
  return plan;
}

/// Elements between neighbouring pixels in shared memory.
FASTCONV_HOST_DEVICE int pitch_of(int chunks) { return (chunks + 1) * kChunk; }
FASTCONV_HOST_DEVICE int pitch_of(const GroupedPlan& plan) { return pitch_of(plan.chunks); }

/// Stages of the ring, where a step takes `stride` rows of x.
template <int kStride>
constexpr int kStages = kStride == 1 ? 4 : 3;

/// Columns of x that the outputs of a strip see.
template <int kStride>
FASTCONV_HOST_DEVICE int input_columns(const GroupedPlan& plan) {
  return (plan.tiles * kMmaPixels - 1) * kStride + kFilter;
}
/// Elements of a staged row: two of them follow the ring, as floats.
FASTCONV_HOST_DEVICE int staged_size(const GroupedPlan& plan, int columns) { return columns * pitch_of(plan); }

__device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }

/// A block's place in the plan.
struct GroupedPlace {
  int channel, q, row, n;  // the first of each
};
__device__ __forceinline__ GroupedPlace place_of(int block, const GroupedPlan& plan) {
  GroupedPlace at;
  at.channel = block % plan.channel_tiles * plan.chunks * kChunk, block /= plan.channel_tiles;
  at.q = block % plan.strips * plan.tiles * kMmaPixels, block /= plan.strips;
  at.row = block % plan.bands * plan.rows;
  at.n = block / plan.bands;
  return at;
}

/// The rows of one image, in a block's channels: a thread has the same chunk of 16 bytes of every `step`th column.
template <class T>
struct RowLoader {
  const T* x;
  int offset;  // of the image's first pixel, at the block's first channel
  int H, W, C, chunk, column, pitch, step;

  __device__ __forceinline__ RowLoader(const T* x_, int offset_, int H_, int W_, int C_, int chunks, int pitch_,
                                       int step_)
      : x(x_),
        offset(offset_),
        H(H_),
        W(W_),
        C(C_),
        chunk(static_cast<int>(threadIdx.x) % chunks * kPackLanes<T>),
        column(static_cast<int>(threadIdx.x) / chunks),
        pitch(pitch_),
        step(step_) {}
  __device__ __forceinline__ RowLoader(const T* x_, int offset_, int H_, int W_, int C_, const GroupedPlan& plan)
      : RowLoader(x_, offset_, H_, W_, C_, plan.chunks, pitch_of(plan), kWarpSize) {}

  /// Begins to copy `columns` pixels of row h from column w on; zeros outside the image.
  __device__ __forceinline__ void load(T* to, int h, int w, int columns) const {
    const bool inside = h >= 0 && h < H;
#pragma unroll 1
    for (int i = column; i < columns; i += step) {
      const bool valid = inside && w + i >= 0 && w + i < W;
      ptx::cp_async<16>(to + i * pitch + chunk, x + (valid ? offset + (h * W + w + i) * C + chunk : 0), valid);
    }
  }
};

/// Channels a group: constant but for the choice of 4 or 8, so that divisions by it are not made one by one.
template <int kChunks>
__device__ __forceinline__ int group_size(const ConvShape& p) {
  return kChunks > 1 ? kChunks * kChunk : p.C_per_group;
}

/// A lane's weights of output channel `k`, B of the products of a filter row: entries (chunk pair, half). `swapped`
/// takes the taps of a row as 0, 2, 1. Filter's k is the output's channel, its c the channel that is summed over.
template <class T, int kChunks>
__device__ __forceinline__ void load_weights(uint32_t (&b)[kFilter][kSteps<kChunks>][2], const Filter& w, int k,
                                             const ConvShape& p, bool swapped) {
  static_assert(kFilter == 3);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, size = group_size<kChunks>(p);
  const int group = k / size, first = k / (kChunks * kChunk) * (kChunks * kChunk);
  const T* const weights = static_cast<const T*>(w.data) + w.offset(group, k % size, 0, 0, 0, 0);
  // Row by row through the last place: with 16 or 32 channels a group, the addresses of all rows at once would not
  // leave enough registers.
#pragma unroll(kChunks > 1 ? 1 : kFilter)
  for (int r = 0; r < kFilter; ++r)
#pragma unroll
    for (int m = 0; m < 2 * kSteps<kChunks>; ++m) {
      const int tap = m / kChunks, s = swapped && tap > 0 ? kFilter - tap : tap;
      uint32_t bits = 0;
#pragma unroll
      for (int i = 0; i < 2 && tap < kFilter; ++i) {
        const int c = first + m % kChunks * kChunk + lane % 4 * 2 + i;
        const uint32_t weight = weights[w.offset(0, 0, c % size, 0, r, s)].bits;
        bits |= (c / size == group ? weight : 0) << 16 * i;
      }
      b[0][m / 2][m % 2] = b[1][m / 2][m % 2];
      b[1][m / 2][m % 2] = b[2][m / 2][m % 2];
      b[2][m / 2][m % 2] = bits;
    }
}

/// d += a b of two chunks, in T's product.
template <class T>
__device__ __forceinline__ void multiply_chunks(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, float>) ptx::mma_m16n8k8_tf32(d, a, b);
  else ptx::mma_m16n8k16<T>(d, a, b);
}

}  // namespace
}  // namespace fastconv
