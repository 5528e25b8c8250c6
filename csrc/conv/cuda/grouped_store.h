// How the grouped kernels of fprop and dgrad store their sums: through rows staged in shared memory, from where a warp
// writes neighbouring channels.
#pragma once

#include "conv/cuda/grouped.h"

namespace fastconv {
namespace {

/// A lane's two channels of a pixel, to be stored after the next barrier.
__device__ __forceinline__ void stage_pair(float* to, float first, float second) {
  store_pack(to, Pack<float, 2>{first, second});
}

/// The sums of one output row under way after another, oldest last: stages the oldest where it is `complete`, and moves
/// the others on. `channel` is the warp's first in a staged pixel.
template <int kLive>
__device__ __forceinline__ void stage_oldest(float (&sum)[kLive][kMaxTiles][4], float* staged, bool complete,
                                             int channel, int pitch, int tiles) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float* const to = staged + lane / 4 * pitch + channel + lane % 4 * 2;
#pragma unroll
  for (int tile = 0; tile < kMaxTiles; ++tile) {
    if (tile >= tiles) break;
    const float (&done)[4] = sum[kLive - 1][tile];
    if (complete) {
      stage_pair(to + tile * kMmaPixels * pitch, done[0], done[1]);
      stage_pair(to + (tile * kMmaPixels + 8) * pitch, done[2], done[3]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = kLive - 1; j > 0; --j) sum[j][tile][i] = sum[j - 1][tile][i];
      sum[0][tile][i] = 0;
    }
  }
}

/// Both rounded to T.
template <class T>
__device__ __forceinline__ Pack<T, 2> narrow_pair(float first, float second) {
  if constexpr (std::is_same_v<T, float>) {
    return {first, second};
  } else {
    const uint32_t bits = ptx::pack2<T>(first, second);
    Pack<T, 2> pair;
    std::memcpy(static_cast<void*>(&pair), &bits, sizeof(bits));
    return pair;
  }
}

/// The taps of one output along an axis: tap i reads `at` + i * step of the input, by the filter's `first` + i * next.
struct TapAxis {
  int at, step, taps, first, next;
};

/// The sums of output channels k and k + 1, of one group, over this group alone. `image` is of the input, before
/// channel 0. Rare: one loop, which leaves the caller its registers.
template <class T>
__device__ __forceinline__ Pack<float, 2> plain_sums(const T* image, int H, int W, int C, const Filter& w, int k,
                                                     int size, const TapAxis& rows, const TapAxis& columns) {
  Pack<float, 2> sums = {};
#pragma unroll 1
  for (int i = 0; i < rows.taps * columns.taps * size; ++i) {
    const int c = i % size, r = i / size / columns.taps, s = i / size % columns.taps;
    const int h = rows.at + r * rows.step, v = columns.at + s * columns.step;
    if (h < 0 || h >= H || v < 0 || v >= W) continue;
    const T* const weight =
        static_cast<const T*>(w.data) +
        w.offset(k / size, k % size, c, 0, rows.first + r * rows.next, columns.first + s * columns.next);
    const float value = widen(image[(h * W + v) * C + k / size * size + c]);
    sums.at[0] += value * widen(weight[0]);
    sums.at[1] += value * widen(weight[w.stride_k]);
  }
  return sums;
}

__device__ __forceinline__ bool is_nan(float x) { return !(x == x); }

/// Finishes and stores columns `from` to `to` of a staged row of `chunks` * 8 channels. `offset` is where channel
/// `channel`, the block's first, of the row's column 0 lies, `pixel` the elements from one column to the next. A thread
/// has the same two channels of every eighth column: a warp writes 64 or 128 bytes of neighbours. Where two groups
/// share their products, those of `own(column, channel)` are taken for sums that are NaN.
template <class T, class Own>
__device__ __forceinline__ void store_staged(T* y, int64_t offset, const float* staged, int from, int to, int pixel,
                                             int channel, int chunks, const Epilogue& epilogue, bool groups_share,
                                             const Own& own) {
  const int pairs = chunks * kChunk / 2, c = static_cast<int>(threadIdx.x) % pairs * 2;
#pragma unroll 1
  for (int column = from + static_cast<int>(threadIdx.x) / pairs; column < to; column += 2 * kWarpSize / kChunk) {
    auto sums = load_pack<2>(staged + column * pitch_of(chunks) + c);
    if (groups_share && (is_nan(sums.at[0]) || is_nan(sums.at[1]))) {
      const Pack<float, 2> plain = own(column, channel + c);
#pragma unroll
      for (int i = 0; i < 2; ++i) sums.at[i] = is_nan(sums.at[i]) ? plain.at[i] : sums.at[i];
    }
    const int64_t index = offset + int64_t{column} * pixel + c;
    store_pack(y + index, narrow_pair<T>(finish<T>(sums.at[0], epilogue, channel + c, index),
                                         finish<T>(sums.at[1], epilogue, channel + c + 1, index + 1)));
  }
}

}  // namespace
}  // namespace fastconv
