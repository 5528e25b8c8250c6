// What kernels that walk filter taps along rows share: taps of an axis, the cut of rows and channels.
#pragma once

#include "core/cpu/long_sum.h"
#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"

namespace fastconv {
namespace {

constexpr int kMaxPhases = 8;

/// One phase of the output along one axis: output first + step * j, for j < count, reads through tap t the input
/// in_first + in_step * j + tap_step * t with weight w_first + w_step * t.
struct Axis {
  int64_t first, step, count;
  int64_t in_first, in_step, tap_step;
  int64_t taps, w_first, w_step;
};

inline Axis fprop_axis(int64_t outputs, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  return {0, 1, outputs, -pad, stride, dilation, taps, 0, 1};
}

/// Outputs `phase + stride * j` of dgrad: the taps t with phase + pad - t * dilation divisible by the stride reach
/// them, every `period`-th tap. They are walked from the last to the first, which walks dy forwards.
inline Axis dgrad_axis(int64_t phase, int64_t outputs, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  int64_t period = 1, t = 0;
  while (period * dilation % stride != 0) ++period;
  while (t < period && (phase + pad - t * dilation) % stride != 0) ++t;
  const int64_t count = phase < outputs ? (outputs - phase + stride - 1) / stride : 0;
  if (t == period || t >= taps) return {phase, stride, count, 0, 1, 1, 0, 0, 0};
  const int64_t n = (taps - t + period - 1) / period, last = t + (n - 1) * period;
  return {phase, stride, count,  (phase + pad - last * dilation) / stride, 1, period * dilation / stride,
          n,     last,   -period};
}

/// The taps of output j that read inside [0, extent).
inline Range taps_inside(const Axis& a, int64_t j, int64_t extent) {
  const int64_t at = a.in_first + a.in_step * j;
  const int64_t begin = at >= 0 ? 0 : divide_up(-at, a.tap_step);
  const int64_t end = at >= extent ? 0 : divide_up(extent - at, a.tap_step);
  return {begin, end < a.taps ? end : a.taps};
}

/// The outputs in [0, outputs) all of whose taps read inside [0, extent).
inline Range all_taps_inside(int64_t outputs, int64_t extent, int64_t taps, int64_t stride, int64_t pad,
                             int64_t dilation) {
  const int64_t begin = pad > 0 ? divide_up(pad, stride) : 0;
  const int64_t room = extent + pad - dilation * (taps - 1);
  const int64_t end = room > 0 ? divide_up(room, stride) : 0;
  return {begin < outputs ? begin : outputs, end < outputs ? end : outputs};
}

/// Long sums of float32 go through two floats: *total + *rest gains `a` almost without loss (Knuth's two-sum).
FASTCONV_INLINE void add_to_pair(float* total, float* rest, Vec a) {
  const Vec before = load(total), after = before + a, gained = after - before;
  store(rest, load(rest) + ((before - (after - gained)) + (a - gained)));
  store(total, after);
}

/// In place of a number of taps: any number, at any steps, whose products are more than one chain takes.
constexpr int kLong = -1;

/// The sums of a tile over any number of products: blocks of them are summed apart, and kept in `total`.
template <int kTile>
struct LongSums {
  alignas(64) float total[kTile * kLanes];
  int64_t in_block = 0;
  bool longer = false;

  /// After one more product in each of `sum`.
  FASTCONV_INLINE void passed(Vec (&sum)[kTile]) {
    if (++in_block < kBlockOfSum) return;
    for (int j = 0; j < kTile; ++j) store(total + j * kLanes, longer ? load(total + j * kLanes) + sum[j] : sum[j]);
    for (int j = 0; j < kTile; ++j) sum[j] = zero();
    in_block = 0, longer = true;
  }
  FASTCONV_INLINE void finish(Vec (&sum)[kTile]) const {
    if (!longer) return;
    for (int j = 0; j < kTile; ++j) sum[j] = sum[j] + load(total + j * kLanes);
  }
};

/// Outputs that one chain of float32 additions may span: its error grows with the length, that of many short chains
/// with the root.
constexpr int64_t kChain = 64;

/// How a call is cut: channels into `channel_parts` and rows of all images into `row_parts`, one task for each pair.
struct Cut {
  int64_t row_parts, channel_parts;
};

/// Rows first: a task's memory is then one piece, which no other core's prefetcher touches. Channels are cut where
/// rows are too few to be shared out evenly.
inline Cut cut_for(int64_t rows, int64_t vectors, int64_t threads) {
  Cut best{threads, 1};
  int64_t least = divide_up(rows, threads) * vectors;
  for (int64_t parts = 2; parts <= threads && parts * 4 <= vectors; ++parts) {
    if (threads % parts != 0) continue;
    const int64_t load = divide_up(rows, threads / parts) * divide_up(vectors, parts);
    if (load * 21 < least * 20) best = {threads / parts, parts}, least = load;
  }
  return best;
}

/// Whether an image, of so many floats read and written, outgrows L2.
inline bool outgrows_l2(int64_t floats) { return floats > static_cast<int64_t>(l2_bytes() / sizeof(float)); }

/// Whether the rows of `images` images, each of so many floats read and written, come from beyond the caches that are
/// near: a call of a few megabytes finds them in the shared one.
inline bool comes_from_afar(int64_t image_floats, int64_t images) {
  constexpr int64_t kNear = (int64_t{4} << 20) / static_cast<int64_t>(sizeof(float));
  return outgrows_l2(image_floats) && images * image_floats > kNear;
}

/// Whether such rows are walked in the order of memory, which the prefetchers follow, rather than in blocks of
/// channels, whose rows stay in L1, and the next row is asked for. That pays on cores of 32 KB of L1 (measured: Zen 4).
/// A larger L1 comes with twice the multiplications a cycle, which are kept fed from L1 alone, and with prefetchers
/// that follow blocks too (measured: Zen 5, where asking ahead and the order each cost time).
inline bool in_memory_order(int64_t image_floats, int64_t images) {
  constexpr size_t kLargeL1 = size_t{48} << 10;
  return l1_bytes() < kLargeL1 && comes_from_afar(image_floats, images);
}

/// Calls `body(n, h, channel, channel_end)`, h a range of `rows_at_once` rows or of what is left of an image, for the
/// rows [rows.begin, rows.end), counted over all images of `height` rows, of the channel vectors [vectors.begin,
/// vectors.end); `row_floats` is what a row of one channel reads and writes. Row by row, all channels at once, where
/// `in_order`.
template <class Body>
void for_each_row(Range rows, int64_t height, Range vectors, int64_t channels, int64_t row_floats, bool in_order,
                  Body&& body, int64_t rows_at_once = 1) {
  // A block of channels that fits into L1; not under 64, for the sake of whole lines and pages.
  const int64_t row_bytes = row_floats * static_cast<int64_t>(sizeof(float));
  const int64_t fitting = static_cast<int64_t>(l1_bytes()) * 2 / 3 / row_bytes / kLanes;
  const int64_t at_once = in_order ? vectors.end - vectors.begin : fitting < 64 / kLanes ? 64 / kLanes : fitting;
  const int64_t blocks = divide_up(vectors.end - vectors.begin, at_once);
  for (int64_t begin = rows.begin; begin < rows.end;) {
    const int64_t n = begin / height, image_end = (n + 1) * height;
    const int64_t end = rows.end < image_end ? rows.end : image_end;
    for (int64_t block = 0; block < blocks; ++block) {
      const Range v = part_of(vectors.end - vectors.begin, blocks, block);
      const int64_t channel = (vectors.begin + v.begin) * kLanes, channel_end = (vectors.begin + v.end) * kLanes;
      for (int64_t h = begin; h < end; h += rows_at_once)
        body(n, Range{h - n * height, least(h + rows_at_once, end) - n * height}, channel,
             least(channel_end, channels));
    }
    begin = end;
  }
}

}  // namespace
}  // namespace fastconv
