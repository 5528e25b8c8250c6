// The register tiles of grouped fprop and dgrad: a vector of output channels for neighbours of a row, or of two rows.
#pragma once

#include "conv/cpu/taps.h"
#include "core/cpu/epilogue.h"

namespace fastconv {
namespace {

constexpr int kMaxTile = Vec::kRegisters == 32 ? 8 : 4;
// At stride 2 a wider tile would read more pixels than there are ways in L1: in images of 1024 channels, say, the
// pixels of a row share a set.
constexpr int kMaxStridedTile = Vec::kRegisters == 32 ? 5 : 4;

struct GroupedTile {
  const float* in;  // what output 0 reads through the first tap row's tap 0, at the group's (or vector's) first channel
  int64_t in_row, in_pixel, in_step, tap_step;  // in_row and in_pixel in elements, the steps in pixels
  const float* w;
  int64_t w_row, w_channel, w_tap;
  int64_t rows, taps, group;
  LaneIndex lanes;     // first_of_group
  int64_t begin, end;  // the pixels of the tile's span [0, span) that exist
  float* out;
  const Epilogue* epilogue;
  int64_t pixel, out_pixel, channel;
  const float* ahead;  // what the same tile of the next output row, or pair, reads anew
  int64_t ahead_row, ahead_rows;
  int64_t out_row, first_row, last_row;  // of a pair
};

/// The sums of a tile take longer than a cache miss: what the next rows read and what it writes is asked for before.
template <int kLines>
FASTCONV_INLINE void ask_for_input(const GroupedTile& t, int64_t row) {
#pragma GCC unroll 16
  for (int i = 0; i < kLines; ++i) __builtin_prefetch(t.ahead + row * t.ahead_row + i * t.in_pixel, 0, 2);
}
template <int kTile>
FASTCONV_INLINE void ask_for_output(const GroupedTile& t, int64_t pixel) {
#pragma GCC unroll 8
  for (int j = 0; j < kTile; ++j) __builtin_prefetch(t.out + pixel + t.channel + j * t.out_pixel, 1);
}

/// Pixel `i` of the span, from the row at `in`: the c-th channel of every lane's group.
template <bool kEdge, bool kPermute>
FASTCONV_INLINE Vec tile_input(const GroupedTile& t, const float* in, int64_t i, int64_t c, LaneIndex lane) {
  if (kEdge && (i < t.begin || i >= t.end)) return zero();
  const float* pixel = in + i * t.in_pixel;
  return in_register(kPermute ? permute(load(pixel), lane) : broadcast(pixel[c]));
}

/// Finishes and stores the sums of one row; `simple` ones began with the shift.
template <int kTile>
FASTCONV_INLINE void finish_row(const GroupedTile& t, bool simple, int64_t pixel, const Vec (&sum)[kTile]) {
  if (simple) {
    const Clamp clamp = clamp_of(t.epilogue->activation);
    float* out = t.out + pixel + t.channel;
#pragma GCC unroll 8
    for (int j = 0; j < kTile; ++j) store(out + j * t.out_pixel, apply(clamp, sum[j]));
  } else {
    float sums[kTile * kLanes];
#pragma GCC unroll 8
    for (int j = 0; j < kTile; ++j) store(sums + j * kLanes, sum[j]);
    finish_tile(sums, kTile, *t.epilogue, t.out, pixel, t.out_pixel, t.channel, kLanes);
  }
}

/// kTaps taps, neighbours, at in_step kStep; or any number at any steps where kTaps is 0 or kLong. kEdge: some of the
/// span does not exist. kPermute: groups narrower than a vector.
template <int kTile, int kTaps, int kStep, bool kEdge, bool kPermute>
void run_grouped_tile(const GroupedTile& t) {
  constexpr int kSpan = kTaps > 0 ? (kTile - 1) * kStep + kTaps : kTile;
  const Epilogue& e = *t.epilogue;
  const bool simple = is_shift_and_clamp(e);
  for (int64_t row = 0; row < t.ahead_rows; ++row) ask_for_input<kTile*(kStep > 0 ? kStep : 1)>(t, row);
  if (t.ahead_rows > 0) ask_for_output<kTile>(t, t.pixel);
  // Two sums an output, of even and of odd channels: one alone would wait for itself.
  Vec even[kTile], odd[kTile];
  const Vec start = simple && e.shift ? load(static_cast<const float*>(e.shift) + t.channel) : zero();
#pragma GCC unroll 8
  for (int j = 0; j < kTile; ++j) even[j] = start, odd[j] = zero();
  [[maybe_unused]] LongSums<kTile> long_even, long_odd;
  const LaneIndex first = t.lanes;
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* in = t.in + r * t.in_row;
    const float* w = t.w + r * t.w_row;
    LaneIndex lane = first;
    for (int64_t c = 0; c < t.group; c += 2) {
      in = reload(in);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half, w += t.w_channel, lane = next(lane)) {
        Vec* sum = half ? odd : even;
        if constexpr (kTaps > 0) {
          Vec v[kSpan];
#pragma GCC unroll 32
          for (int i = 0; i < kSpan; ++i) v[i] = tile_input<kEdge, kPermute>(t, in, i, c + half, lane);
#pragma GCC unroll 8
          for (int s = 0; s < kTaps; ++s) {
            const Vec weight = in_register(load(w + s * t.w_tap));
#pragma GCC unroll 8
            for (int j = 0; j < kTile; ++j) sum[j] = fma(v[j * kStep + s], weight, sum[j]);
          }
        } else {
          for (int64_t s = 0; s < t.taps; ++s) {
            const Vec weight = in_register(load(w + s * t.w_tap));
#pragma GCC unroll 8
            for (int j = 0; j < kTile; ++j)
              sum[j] = fma(tile_input<kEdge, kPermute>(t, in, s * t.tap_step + j * t.in_step, c + half, lane), weight,
                           sum[j]);
            if constexpr (kTaps == kLong) (half ? long_odd.passed(odd) : long_even.passed(even));
          }
        }
      }
    }
  }
  if constexpr (kTaps == kLong) long_even.finish(even), long_odd.finish(odd);
#pragma GCC unroll 8
  for (int j = 0; j < kTile; ++j) even[j] = even[j] + odd[j];
  finish_row<kTile>(t, simple, t.pixel, even);
}

/// Two rows of kTile outputs through a dense 3x3 filter at unit stride: an input serves up to six sums, so that fewer
/// permutations are made for each; for groups narrower than a vector. `t.in` is what the first row reads through tap
/// row 0; of the four rows from there, [first_row, last_row) exist.
template <int kTile, bool kEdge>
void run_grouped_pair(const GroupedTile& t) {
  const Epilogue& e = *t.epilogue;
  const bool simple = is_shift_and_clamp(e);
  Vec sum[2][kTile];
  const Vec start = simple && e.shift ? load(static_cast<const float*>(e.shift) + t.channel) : zero();
#pragma GCC unroll 8
  for (int j = 0; j < kTile; ++j) sum[0][j] = sum[1][j] = start;
  LaneIndex lane = t.lanes;
  const float *in = t.in, *w = t.w;
  for (int64_t c = 0; c < t.group; ++c, w += t.w_channel, lane = next(lane)) {
    // Two rows of each, one at a time: all at once would wait for the misses that a core can have under way.
    if (t.ahead_rows > 0 && c < 4) {
      if (c < 2) ask_for_input<kTile>(t, c);
      else ask_for_output<kTile>(t, t.pixel + (c - 2) * t.out_row);
    }
    in = reload(in);
    Vec weight[3][3];
#pragma GCC unroll 3
    for (int r = 0; r < 3; ++r)
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s) weight[r][s] = load(w + r * t.w_row + s * t.w_tap);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (i < t.first_row || i >= t.last_row) continue;
#pragma GCC unroll 16
      for (int j = 0; j < kTile + 2; ++j) {
        const Vec v = tile_input<kEdge, true>(t, in + i * t.in_row, j, c, lane);
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s)
#pragma GCC unroll 2
          for (int row = 0; row < 2; ++row)
            if (const int q = j - s, r = i - row; q >= 0 && q < kTile && r >= 0 && r < 3)
              sum[row][q] = fma(v, weight[r][s], sum[row][q]);
      }
    }
  }
#pragma GCC unroll 2
  for (int row = 0; row < 2; ++row) finish_row<kTile>(t, simple, t.pixel + row * t.out_row, sum[row]);
}

using RunGroupedTile = void (*)(const GroupedTile&);
struct GroupedTiles {
  RunGroupedTile run[kMaxTile];
};

template <int kTaps, int kStep, bool kEdge, bool kPermute>
constexpr GroupedTiles kGroupedTiles = [] {
  GroupedTiles tiles = {};
  tiles.run[0] = run_grouped_tile<1, kTaps, kStep, kEdge, kPermute>;
  tiles.run[1] = run_grouped_tile<2, kTaps, kStep, kEdge, kPermute>;
  tiles.run[2] = run_grouped_tile<3, kTaps, kStep, kEdge, kPermute>;
  tiles.run[3] = run_grouped_tile<4, kTaps, kStep, kEdge, kPermute>;
  if constexpr (kMaxTile == 8) {
    tiles.run[4] = run_grouped_tile<5, kTaps, kStep, kEdge, kPermute>;
    tiles.run[5] = run_grouped_tile<6, kTaps, kStep, kEdge, kPermute>;
    tiles.run[6] = run_grouped_tile<7, kTaps, kStep, kEdge, kPermute>;
    tiles.run[7] = run_grouped_tile<8, kTaps, kStep, kEdge, kPermute>;
  }
  return tiles;
}();

template <bool kEdge>
constexpr GroupedTiles kGroupedPairs = [] {
  GroupedTiles tiles = {};
  tiles.run[0] = run_grouped_pair<1, kEdge>;
  tiles.run[1] = run_grouped_pair<2, kEdge>;
  tiles.run[2] = run_grouped_pair<3, kEdge>;
  tiles.run[3] = run_grouped_pair<4, kEdge>;
  if constexpr (kMaxTile == 8) {
    tiles.run[4] = run_grouped_pair<5, kEdge>;
    tiles.run[5] = run_grouped_pair<6, kEdge>;
    tiles.run[6] = run_grouped_pair<7, kEdge>;
    tiles.run[7] = run_grouped_pair<8, kEdge>;
  }
  return tiles;
}();

/// For `rows` rows of taps and `group` channels.
template <bool kEdge, bool kPermute>
const GroupedTiles& grouped_tiles_for(const Axis& a, int64_t rows, int64_t group, bool pair) {
  if (rows * group * a.taps > 2 * kBlockOfSum) return kGroupedTiles<kLong, 0, kEdge, kPermute>;
  if constexpr (kPermute) {
    if (pair) return kGroupedPairs<kEdge>;
  }
  const int64_t kind = a.tap_step == 1 && a.in_step <= 2 ? a.taps * 10 + a.in_step : 0;
  switch (kind) {
    case 31: return kGroupedTiles<3, 1, kEdge, kPermute>;
    case 32: return kGroupedTiles<3, 2, kEdge, kPermute>;
    case 21: return kGroupedTiles<2, 1, kEdge, kPermute>;
    default: return kGroupedTiles<0, 0, kEdge, kPermute>;
  }
}

}  // namespace
}  // namespace fastconv
