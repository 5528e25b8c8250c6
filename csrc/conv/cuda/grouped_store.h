// How the grouped kernels of fprop and dgrad store their sums: through rows staged in shared memory, from where a
// thread takes neighbouring channels, 16 bytes of the output.
#pragma once

#include "conv/cuda/grouped.h"

namespace fastconv {
namespace {

/// A lane's two channels of a pixel, to be stored after the next barrier.
__device__ __forceinline__ void stage_pair(float* to, float first, float second) {
  store_pack(to, Pack<float, 2>{first, second});
}

/// Where channel c lies in a staged pixel. They are read as 4 floats: of T of 16 bits a thread takes the two halves of
/// a chunk, which lie apart, so that neighbouring threads read neighbouring banks.
template <class T>
__device__ __forceinline__ int staged_place(int c, int pitch) {
  constexpr int kHalf = kChunk / 2;
  if constexpr (std::is_same_v<T, float>) return c;
  else return c / kChunk * kHalf + c % kHalf + c % kChunk / kHalf * (pitch / 2);
}

/// The sums of one output row under way after another, oldest last: stages the oldest where it is `complete`, and moves
/// the others on. `channel` is the warp's first in a staged pixel.
template <class T, int kLive>
__device__ __forceinline__ void stage_oldest(float (&sum)[kLive][kMaxTiles][4], float* staged, bool complete,
                                             int channel, int pitch, int tiles) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float* const to = staged + lane / 4 * pitch + staged_place<T>(channel + lane % 4 * 2, pitch);
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

/// The taps of one output along an axis: tap i reads `at` + i * step of the input, by the filter's `first` + i * next.
struct TapAxis {
  int at, step, taps, first, next;
};

/// The sums of output channels k and k + 1, of one group, of image n of the input `x`, over this group alone. Rare: one
/// loop, which leaves the caller its registers.
template <class T>
__device__ __forceinline__ Pack<float, 2> plain_sums(const T* x, int n, int H, int W, int C, const Filter& w, int k,
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
    const float value = widen(x[((n * H + h) * W + v) * C + k / size * size + c]);
    sums.at[0] += value * widen(weight[0]);
    sums.at[1] += value * widen(weight[w.stride_k]);
  }
  return sums;
}

__device__ __forceinline__ bool is_nan(float x) { return !(x == x); }

/// Floats that a RowStorer keeps in shared memory behind the staged rows: a pixel each of scale and of shift.
FASTCONV_HOST_DEVICE int affine_size(int chunks) { return 2 * pitch_of(chunks); }

/// A thread's share of every row that its block stores, of up to kColumns: 16 bytes of neighbouring channels of every
/// kStep-th column, the same channels in all rows. A warp writes 64 bytes or more of neighbours.
template <class T, int kColumns>
struct RowStorer {
  static constexpr int kLanes = kPackLanes<T>, kStep = kWarpSize * kLanes / kChunk;
  T* y;
  const Epilogue& epilogue;
  int channel, in_block;  // the block's first; the thread's first, from there on
  int column, pitch;      // of a row's first; floats of a staged pixel
  float* affine;

  /// `channel` is the block's first, of `chunks` * 8. To be followed by a barrier before the first `store`. Scale and
  /// shift go to shared memory: the weights leave no registers to hold them.
  __device__ __forceinline__ RowStorer(T* y_, const Epilogue& epilogue_, int channel_, int chunks, float* affine_)
      : y(y_), epilogue(epilogue_), channel(channel_), pitch(pitch_of(chunks)), affine(affine_) {
    const int thread = static_cast<int>(threadIdx.x), packs = chunks * kChunk / kLanes;
    in_block = thread % packs * kLanes, column = thread / packs;
    if (thread >= chunks * kChunk) return;
    float* const to = affine + staged_place<T>(thread, pitch);
    if (epilogue.scale) to[0] = static_cast<const float*>(epilogue.scale)[channel + thread];
    if (epilogue.shift) to[pitch] = static_cast<const float*>(epilogue.shift)[channel + thread];
  }

  /// Finishes and stores columns `from` to `to` of a staged row. `offset` is where the block's first channel of the
  /// row's column 0 lies, `pixel` the elements from one column to the next. Where two groups share their products,
  /// those of `own(column, channel)` are taken for sums that are NaN.
  template <class Own>
  __device__ __forceinline__ void store(int offset, float* staged, int from, int to, int pixel, bool groups_share,
                                        const Own& own) const {
#pragma unroll 1
    for (int turn = 0; turn < kColumns / kStep; ++turn) {
      const int i = from + column + turn * kStep;
      if (i >= to) return;
      const int place = staged_place<T>(in_block, pitch);
      float* const sums = staged + i * pitch + place;
      float values[kLanes];
      read(values, sums);
      if (groups_share && any_nan(values)) {
        mend(sums, [&](int l) { return own(i, channel + in_block + l); });
        read(values, sums);
      }
      const int index = offset + i * pixel + in_block;
      finish_all(values, place, index);
      store_pack(y + index, narrow_all<T>(values));
    }
  }

 private:
  __device__ __forceinline__ void read(float (&values)[kLanes], const float* sums) const {
#pragma unroll
    for (int l = 0; l < kLanes; l += 4) {
      const auto four = load_pack<4>(sums + staged_place<T>(l, pitch));
#pragma unroll
      for (int i = 0; i < 4; ++i) values[l + i] = four.at[i];
    }
  }
  static __device__ __forceinline__ bool any_nan(const float (&values)[kLanes]) {
    bool any = false;
#pragma unroll
    for (const float value : values) any |= is_nan(value);
    return any;
  }
  /// The epilogue of output elements `index` and on, whose channels lie at `place` of a staged pixel.
  __device__ __forceinline__ void finish_all(float (&values)[kLanes], int place, int index) const {
    if (epilogue.scale) {  // one after the other: both at once would not leave enough registers
      float scale[kLanes];
      read(scale, affine + place);
#pragma unroll
      for (int l = 0; l < kLanes; ++l) values[l] *= scale[l];
    }
    if (epilogue.shift) {
      float shift[kLanes];
      read(shift, affine + pitch + place);
#pragma unroll
      for (int l = 0; l < kLanes; ++l) values[l] += shift[l];
    }
    if (epilogue.residual) {
      const auto residual = load_pack<kLanes>(static_cast<const T*>(epilogue.residual) + index);
#pragma unroll
      for (int l = 0; l < kLanes; ++l) values[l] += widen(residual.at[l]);
    }
    activate_all(values, epilogue.activation);
  }
  /// Puts `own(lane)` for sums that are NaN: in shared memory, as registers have no index.
  template <class Own>
  __device__ __forceinline__ void mend(float* sums, const Own& own) const {
#pragma unroll 1
    for (int l = 0; l < kLanes; l += 2) {
      float* const at = sums + staged_place<T>(l, pitch);
      if (!is_nan(at[0]) && !is_nan(at[1])) continue;
      const Pack<float, 2> plain = own(l);
#pragma unroll
      for (int i = 0; i < 2; ++i)  // as floats: what `read` loads next may alias them, but no other Pack
        if (is_nan(at[i])) at[i] = plain.at[i];
    }
  }
};

}  // namespace
}  // namespace fastconv
