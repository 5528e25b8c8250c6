// The engine of grouped fprop and dgrad with a few channels a group, as many in as out:
// out[n, o, k] = sum over taps and the channels c of k's group of in[n, i(o, tap), c] * w[k, c, tap].
//
// A vector holds kLanes output channels: several whole groups, or a part of one. The c-th channel of every lane's group
// comes from one permutation of an input vector, or, in groups as wide as a vector, from a broadcast; it serves every
// tap that reaches it from a tile, kMaxTile neighbours of a row or, through a dense 3x3 filter, of two. Taps outside
// the image count as zeros along a row and are left out across rows. Work is cut into rows of channel blocks. The
// weight is packed as [output vector][r][c][s][lane]. Channels come in whole vectors.
#pragma once

#include "conv/conv.h"
#include "conv/cpu/grouped_tile.h"

namespace fastconv {
namespace {

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

/// Whether two rows are summed at once: not where inputs are broadcast, which costs no permutation; nor in groups of 4
/// once images come from memory, where pairs were measured slower.
inline bool takes_pairs(const GroupedCall& d) {
  const auto dense = [](const Axis& a) { return a.taps == 3 && a.step == 1 && a.in_step == 1 && a.tap_step == 1; };
  const int64_t image_floats = d.channels * (d.in_h * d.in_w + d.out_h * d.out_w);
  return d.group < kLanes && dense(d.rows[0]) && dense(d.columns[0]) &&
         (d.group > 4 || !comes_from_afar(image_floats, d.N));
}

/// The outputs of a row, or of it and the next, in one phase of the columns, for the channels [channel, channel_end).
inline void run_grouped_row(const GroupedCall& d, const Axis& ah, const Axis& aw, int64_t n, int64_t row, bool pair,
                            int64_t channel, int64_t channel_end) {
  const Range taps = pair ? Range{0, 3} : taps_inside(ah, row, d.in_h);
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
  t.ahead_row = d.in_w * C, t.ahead_rows = d.in_order ? (pair ? 2 : ah.in_step) : 0;
  t.out_row = d.out_w * C, t.first_row = most(-in_row, 0), t.last_row = least(d.in_h - in_row, 4);
  const int64_t ahead_base = in_base + (t.rows - 1 + pair) * t.in_row + t.ahead_row;
  const bool permute = d.group < kLanes;
  const GroupedTiles& inside = permute ? grouped_tiles_for<false, true>(aw, t.rows, d.group, pair)
                                       : grouped_tiles_for<false, false>(aw, t.rows, d.group, pair);
  const GroupedTiles& edge = permute ? grouped_tiles_for<true, true>(aw, t.rows, d.group, pair)
                                     : grouped_tiles_for<true, false>(aw, t.rows, d.group, pair);
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
    const auto row = [&](int64_t n, Range h, int64_t begin, int64_t end) {
      for (int64_t phase = 0; phase < own.columns[0].step; ++phase)
        run_grouped_row(own, own.rows[h.begin % own.rows[0].step], own.columns[phase], n, h.begin / own.rows[0].step,
                        h.end - h.begin == 2, begin, end);
    };
    for_each_row(rows, own.out_h, mine, own.channels, row_floats, own.in_order, row, takes_pairs(own) ? 2 : 1);
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
