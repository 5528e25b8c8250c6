// The engine of grouped fprop and dgrad with a few channels a group, as many in as out:
// out[n, o, k] = sum over taps and the channels c of k's group of in[n, i(o, tap), c] * w[k, c, tap].
//
// A vector holds kLanes output channels: several whole groups, or a part of one. The c-th channel of every lane's group
// comes from one permutation of an input vector, or, in groups as wide as a vector, from a broadcast; it serves every
// tap of its row and the outputs of a tile, kMaxTile neighbours of a row. Taps outside the image count as zeros along a
// row and are left out across rows. Work is cut into rows of channel blocks. The weight is packed as [output
// vector][r][c][s][lane]. Channels come in whole vectors.
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
  const float* ahead;  // what the same tile of the next output row reads anew
  int64_t ahead_row, ahead_rows;
};

/// kTaps taps, neighbours, at in_step kStep; or any number at any steps where kTaps is 0. kEdge: some of the span does
/// not exist. kPermute: groups narrower than a vector.
template <int kTile, int kTaps, int kStep, bool kEdge, bool kPermute>
void run_grouped_tile(const GroupedTile& t) {
  constexpr int kSpan = kTaps > 0 ? (kTile - 1) * kStep + kTaps : kTile;
  const Epilogue& e = *t.epilogue;
  const bool simple = is_shift_and_clamp(e);
  // The sums below take longer than a cache miss: what they write and what the next row reads is asked for before them.
  for (int64_t row = 0; row < t.ahead_rows; ++row)
#pragma GCC unroll 16
    for (int i = 0; i < kTile * (kStep > 0 ? kStep : 1); ++i)
      __builtin_prefetch(t.ahead + row * t.ahead_row + i * t.in_pixel, 0, 2);
  if (t.ahead_rows > 0)
#pragma GCC unroll 8
    for (int j = 0; j < kTile; ++j) __builtin_prefetch(t.out + t.pixel + t.channel + j * t.out_pixel, 1);
  // Two sums an output, of even and of odd channels: one alone would wait for itself.
  Vec even[kTile], odd[kTile];
  const Vec start = simple && e.shift ? load(static_cast<const float*>(e.shift) + t.channel) : zero();
#pragma GCC unroll 8
  for (int j = 0; j < kTile; ++j) even[j] = start, odd[j] = zero();
  const LaneIndex first = t.lanes;
  const auto input = [&](const float* in, int64_t i, int64_t c, LaneIndex lane) {
    if (kEdge && (i < t.begin || i >= t.end)) return zero();
    const float* pixel = in + i * t.in_pixel;
    return in_register(kPermute ? permute(load(pixel), lane) : broadcast(pixel[c]));
  };
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
          for (int i = 0; i < kSpan; ++i) v[i] = input(in, i, c + half, lane);
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
              sum[j] = fma(input(in, s * t.tap_step + j * t.in_step, c + half, lane), weight, sum[j]);
          }
        }
      }
    }
  }
  if (simple) {
    const Clamp clamp = clamp_of(e.activation);
    float* out = t.out + t.pixel + t.channel;
#pragma GCC unroll 8
    for (int j = 0; j < kTile; ++j) store(out + j * t.out_pixel, apply(clamp, even[j] + odd[j]));
  } else {
    float sums[kTile * kLanes];
#pragma GCC unroll 8
    for (int j = 0; j < kTile; ++j) store(sums + j * kLanes, even[j] + odd[j]);
    finish_tile(sums, kTile, e, t.out, t.pixel, t.out_pixel, t.channel, kLanes);
  }
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

template <bool kEdge, bool kPermute>
const GroupedTiles& grouped_tiles_for(const Axis& a) {
  const int64_t kind = a.tap_step == 1 && a.in_step <= 2 ? a.taps * 10 + a.in_step : 0;
  switch (kind) {
    case 31: return kGroupedTiles<3, 1, kEdge, kPermute>;
    case 32: return kGroupedTiles<3, 2, kEdge, kPermute>;
    case 21: return kGroupedTiles<2, 1, kEdge, kPermute>;
    default: return kGroupedTiles<0, 0, kEdge, kPermute>;
  }
}

/// One call: images NHWC with the same channels and groups, and the phases of either axis.
struct GroupedCall {
  int64_t N, channels, group;
  int64_t in_h, in_w, out_h, out_w;
  int64_t taps_h, taps_w;  // of the packed weight
  const float* in = nullptr;
  const float* packed = nullptr;
  float* out = nullptr;
  LaneIndex lanes = {};  // first_of_group, in groups narrower than a vector
  bool in_order = false;
  Epilogue epilogue = {};
  Axis rows[kMaxPhases] = {}, columns[kMaxPhases] = {};
};

/// The outputs of one row in one phase of the columns, for the channels [channel, channel_end).
inline void run_grouped_row(const GroupedCall& d, const Axis& ah, const Axis& aw, int64_t n, int64_t row,
                            int64_t channel, int64_t channel_end) {
  const Range taps = taps_inside(ah, row, d.in_h);
  const int64_t first_tap = taps.begin, in_row = ah.in_first + ah.in_step * row + ah.tap_step * first_tap;
  const int64_t C = d.channels, span_taps = aw.taps ? (aw.taps - 1) * aw.tap_step + 1 : 0;
  GroupedTile t;
  t.in_row = ah.tap_step * d.in_w * C, t.in_pixel = C, t.in_step = aw.in_step, t.tap_step = aw.tap_step;
  t.w_channel = d.taps_w * kLanes, t.w_row = ah.w_step * d.group * t.w_channel, t.w_tap = aw.w_step * kLanes;
  t.rows = taps.end > taps.begin && aw.taps ? taps.end - taps.begin : 0;
  t.taps = aw.taps, t.group = d.group, t.lanes = d.lanes;
  t.out = d.out, t.epilogue = &d.epilogue, t.out_pixel = aw.step * C;
  const int64_t in_base = (n * d.in_h + in_row) * d.in_w * C, w_vector = d.taps_h * d.group * t.w_channel;
  const int64_t w_base = (ah.w_first + ah.w_step * first_tap) * d.group * t.w_channel + aw.w_first * kLanes;
  const int64_t out_base = (n * d.out_h + ah.first + ah.step * row) * d.out_w + aw.first;
  t.ahead_row = d.in_w * C, t.ahead_rows = d.in_order ? ah.in_step : 0;
  const int64_t ahead_base = in_base + (t.rows - 1) * t.in_row + t.ahead_row;
  const bool permute = d.group < kLanes;
  const GroupedTiles& inside = permute ? grouped_tiles_for<false, true>(aw) : grouped_tiles_for<false, false>(aw);
  const GroupedTiles& edge = permute ? grouped_tiles_for<true, true>(aw) : grouped_tiles_for<true, false>(aw);
  const int64_t parts = divide_up(aw.count, aw.in_step == 1 ? kMaxTile : kMaxStridedTile);
  for (t.channel = channel; t.channel < channel_end; t.channel += kLanes) {
    const int64_t first_channel = permute ? t.channel : t.channel / d.group * d.group;
    t.w = d.packed + t.channel / kLanes * w_vector + w_base;
    for (int64_t part = 0; part < parts; ++part) {
      const Range q = part_of(aw.count, parts, part);
      const int64_t width = q.end - q.begin, at = aw.in_first + aw.in_step * q.begin;
      const int64_t span = (width - 1) * aw.in_step + span_taps;
      t.begin = at < 0 ? -at : 0;
      t.end = at + span > d.in_w ? d.in_w - at : span;
      t.pixel = (out_base + aw.step * q.begin) * C;
      t.in = d.in + in_base + at * C + first_channel;
      t.ahead = d.in + ahead_base + at * C + t.channel;
      (t.begin > 0 || t.end < span ? edge : inside).run[width - 1](t);
    }
  }
}

inline void run_grouped(const GroupedCall& d) {
  const int64_t vectors = d.channels / kLanes;
  const Cut cut = cut_for(d.N * d.out_h, vectors, num_threads());
  parallel_for(cut.row_parts * cut.channel_parts, [&](int64_t task) {
    GroupedCall own = d;  // reading it from another thread's stack would share lines that thread writes
    own.lanes = first_of_group(own.group < kLanes ? own.group : kLanes);
    const Range rows = part_of(own.N * own.out_h, cut.row_parts, task / cut.channel_parts);
    const Range mine = part_of(vectors, cut.channel_parts, task % cut.channel_parts);
    const int64_t row_floats = own.rows[0].taps * own.in_w + own.out_w;
    own.in_order = outgrows_l2(own.channels * (own.in_h * own.in_w + own.out_h * own.out_w));
    const auto row = [&](int64_t n, int64_t h, int64_t begin, int64_t end) {
      for (int64_t phase = 0; phase < own.columns[0].step; ++phase)
        run_grouped_row(own, own.rows[h % own.rows[0].step], own.columns[phase], n, h / own.rows[0].step, begin, end);
    };
    for_each_row(rows, own.out_h, mine, own.channels, row_floats, own.in_order, row);
  });
}

inline const char* grouped_why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (p.groups == 1) return "takes grouped problems only";
  const int64_t group = p.C_per_group();
  if (group != p.K_per_group()) return "takes as many output channels a group as input channels";
  if (group != 4 && group != 8 && group != 16 && group != 32) return "takes 4, 8, 16 or 32 channels a group";
  if (p.C % kLanes != 0) return "takes channels in whole vectors";
  if (!p.is_2d()) return "takes no depth axis";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels last only";
  return nullptr;
}

inline size_t grouped_packed_bytes(const ConvProblem& p) { return static_cast<size_t>(p.w_elements()) * sizeof(float); }

/// `w` as the engine sees it: k the output channel of the direction, c the input channel.
inline void pack_grouped(const ConvProblem& p, const Filter& w, void* packed) {
  const float* from = static_cast<const float*>(w.data);
  float* to = static_cast<float*>(packed);
  const int64_t group = p.C_per_group();
  for (int64_t k = 0; k < p.K; k += kLanes)
    for (int64_t r = 0; r < p.R; ++r)
      for (int64_t c = 0; c < group; ++c)
        for (int64_t s = 0; s < p.S; ++s, to += kLanes)
          for (int64_t lane = 0; lane < kLanes; ++lane)
            to[lane] = from[w.offset((k + lane) / group, (k + lane) % group, c, 0, r, s)];
}

}  // namespace
}  // namespace fastconv
