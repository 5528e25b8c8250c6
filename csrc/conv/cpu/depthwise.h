// The engine of depthwise fprop and dgrad: out[n, o, channel] = sum over taps of in[n, i(o, tap), channel] * w[channel,
// tap].
//
// Both directions are sums over taps along two axes, described by `Axis`; a strided dgrad is stride^2 such sums, one
// for each phase of the output. Vectors run over channels. A tile is kMaxTile neighbouring outputs of a row: each input
// vector is loaded once for a tile and feeds every tap that reads it, while one row of weights stays in registers.
// Taps outside the image are left out. Images are walked in blocks of channels small enough that the input rows of one
// output row stay in L1; or in the order of memory, with the next row's inputs asked for, where `in_memory_order`.
// The weight is packed as [channel vector][r][s][lane].
#pragma once

#include "conv/conv.h"
#include "conv/cpu/taps.h"
#include "core/cpu/epilogue.h"

namespace fastconv {
namespace {

constexpr int kMaxTile = 8;

/// One tile: kTile outputs of a row, `channels` of them each.
struct Tile {
  const float* in;                              // what output 0 reads through the first tap row's tap 0
  int64_t in_row, in_pixel, in_step, tap_step;  // in_row: from tap row to tap row, in elements; steps in pixels
  const float* w;
  int64_t w_row, w_tap, w_vector;
  int64_t rows, taps;
  int64_t begin, end;  // the pixels of the tile's span [0, span) that exist
  float* out;
  const Epilogue* epilogue;
  int64_t pixel, out_pixel;  // offset of output 0, and from output to output
  int64_t channel, channels;
  bool streamed;  // outputs go past the caches
};

/// kTaps taps, neighbours (tap_step 1), at in_step kStep; or any number at any steps where kTaps is 0 or kLong.
/// kEdge: some of the span does not exist. kTail: fewer channels than lanes.
template <int kTile, int kTaps, int kStep, bool kEdge, bool kTail>
void run_tile(const Tile& t) {
  const Epilogue& e = *t.epilogue;
  const bool simple = is_shift_and_clamp(e);
  const float* shift = simple && e.shift ? static_cast<const float*>(e.shift) + t.channel : nullptr;
  const Clamp clamp = clamp_of(e.activation);
  // Copies, which the compiler may keep: stores of vectors could change what `t` points at.
  const float *in_channels = t.in, *w_channels = t.w;
  float* out_channels = t.out + t.pixel + t.channel;
  const int64_t in_row = t.in_row, in_pixel = t.in_pixel, w_row = t.w_row, w_tap = t.w_tap, w_vector = t.w_vector;
  const bool streamed = t.streamed;
  const int64_t rows = t.rows, begin = t.begin, end = t.end, out_pixel = t.out_pixel, channels = t.channels;
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t n = kTail ? channels : kLanes;
    const auto read = [&](const float* p) { return kTail ? load(p, n) : load(p); };
    Vec sum[kTile];
    const Vec start = shift ? read(shift + c) : zero();
#pragma GCC unroll 8
    for (int j = 0; j < kTile; ++j) sum[j] = start;
    [[maybe_unused]] LongSums<kTile> long_sums;
    const float *in = in_channels, *w = w_channels;
    for (int64_t r = 0; r < rows; ++r, in += in_row, w += w_row) {
      if constexpr (kTaps > 0) {
        Vec weight[kTaps];
#pragma GCC unroll 8
        for (int s = 0; s < kTaps; ++s) weight[s] = load(w + s * w_tap);
        const float* pixel = in;
#pragma GCC unroll 32
        for (int i = 0; i < (kTile - 1) * kStep + kTaps; ++i, pixel += in_pixel) {
          if (kEdge && (i < begin || i >= end)) continue;
          const Vec v = in_register(read(pixel));
#pragma GCC unroll 8
          for (int j = 0; j < kTile; ++j)
            if (const int s = i - j * kStep; s >= 0 && s < kTaps) sum[j] = fma(v, weight[s], sum[j]);
        }
      } else {
        for (int64_t s = 0; s < t.taps; ++s) {
          const Vec weight = load(w + s * w_tap);
          const int64_t at = s * t.tap_step;
          const float* pixel = in + at * in_pixel;
#pragma GCC unroll 8
          for (int j = 0; j < kTile; ++j, pixel += t.in_step * in_pixel) {
            if (const int64_t i = at + j * t.in_step; kEdge && (i < begin || i >= end)) continue;
            sum[j] = fma(read(pixel), weight, sum[j]);
          }
          if constexpr (kTaps == kLong) long_sums.passed(sum);
        }
      }
    }
    if constexpr (kTaps == kLong) long_sums.finish(sum);
    if (simple) {
      float* out = out_channels;
#pragma GCC unroll 8
      for (int j = 0; j < kTile; ++j, out += out_pixel) {
        const Vec y = apply(clamp, sum[j]);
        if (kTail) store(out, y, n);
        else if (streamed) stream(out, y);
        else store(out, y);
      }
    } else {
      float sums[kTile * kLanes];
#pragma GCC unroll 8
      for (int j = 0; j < kTile; ++j) store(sums + j * kLanes, sum[j]);
      finish_tile(sums, kTile, e, t.out, t.pixel, out_pixel, t.channel + c, n);
    }
    in_channels += kLanes, w_channels += w_vector, out_channels += kLanes;
  }
}

using RunTile = void (*)(const Tile&);
struct Tiles {
  RunTile inside[kMaxTile], edge[kMaxTile];
};

template <int kTaps, int kStep, bool kTail>
constexpr Tiles kTiles = {
    {run_tile<1, kTaps, kStep, false, kTail>, run_tile<2, kTaps, kStep, false, kTail>,
     run_tile<3, kTaps, kStep, false, kTail>, run_tile<4, kTaps, kStep, false, kTail>,
     run_tile<5, kTaps, kStep, false, kTail>, run_tile<6, kTaps, kStep, false, kTail>,
     run_tile<7, kTaps, kStep, false, kTail>, run_tile<8, kTaps, kStep, false, kTail>},
    {run_tile<1, kTaps, kStep, true, kTail>, run_tile<2, kTaps, kStep, true, kTail>,
     run_tile<3, kTaps, kStep, true, kTail>, run_tile<4, kTaps, kStep, true, kTail>,
     run_tile<5, kTaps, kStep, true, kTail>, run_tile<6, kTaps, kStep, true, kTail>,
     run_tile<7, kTaps, kStep, true, kTail>, run_tile<8, kTaps, kStep, true, kTail>},
};

inline const Tiles& tiles_for(const Axis& a, int64_t rows) {
  if (rows * a.taps > kBlockOfSum) return kTiles<kLong, 0, false>;
  const int64_t kind = a.tap_step == 1 && a.in_step <= 2 ? a.taps * 10 + a.in_step : 0;
  switch (kind) {
    case 31: return kTiles<3, 1, false>;
    case 32: return kTiles<3, 2, false>;
    case 51: return kTiles<5, 1, false>;
    case 52: return kTiles<5, 2, false>;
    case 71: return kTiles<7, 1, false>;
    case 72: return kTiles<7, 2, false>;
    default: return kTiles<0, 0, false>;
  }
}

/// One call: images NHWC with the same channels, and the phases of either axis, as many as outputs have steps.
struct DepthwiseCall {
  int64_t N, channels;
  int64_t in_h, in_w, out_h, out_w;
  int64_t taps_h, taps_w;  // of the packed weight
  const float* in = nullptr;
  const float* packed = nullptr;
  float* out = nullptr;
  bool streamed = false, in_order = false;
  Epilogue epilogue = {};
  Axis rows[kMaxPhases] = {}, columns[kMaxPhases] = {};
};

/// The outputs of one row in one phase of the columns, for the channels [channel, channel_end).
inline void run_row(const DepthwiseCall& d, const Axis& ah, const Axis& aw, int64_t n, int64_t row, int64_t channel,
                    int64_t channel_end) {
  const Range taps = taps_inside(ah, row, d.in_h);
  const int64_t first_tap = taps.begin, in_row = ah.in_first + ah.in_step * row + ah.tap_step * first_tap;
  const int64_t C = d.channels, span_taps = aw.taps ? (aw.taps - 1) * aw.tap_step + 1 : 0;
  Tile t;
  t.in_row = ah.tap_step * d.in_w * C, t.in_pixel = C, t.in_step = aw.in_step, t.tap_step = aw.tap_step;
  t.w_row = ah.w_step * d.taps_w * kLanes, t.w_tap = aw.w_step * kLanes, t.w_vector = d.taps_h * d.taps_w * kLanes;
  t.rows = taps.end > taps.begin && aw.taps ? taps.end - taps.begin : 0;
  t.taps = aw.taps;
  t.streamed = d.streamed;
  t.out = d.out, t.epilogue = &d.epilogue, t.out_pixel = aw.step * C;
  const int64_t in_base = (n * d.in_h + in_row) * d.in_w * C;
  const int64_t w_base = ((ah.w_first + ah.w_step * first_tap) * d.taps_w + aw.w_first) * kLanes;
  const int64_t out_base = (n * d.out_h + ah.first + ah.step * row) * d.out_w + aw.first;
  const Tiles& tiles = tiles_for(aw, t.rows);
  const Tiles& tail = t.rows * aw.taps > kBlockOfSum ? kTiles<kLong, 0, true> : kTiles<0, 0, true>;
  const int64_t whole_end = channel_end - (channel_end - channel) % kLanes;
  const int64_t parts = divide_up(aw.count, kMaxTile);
  for (int64_t part = 0; part < parts; ++part) {
    const Range q = part_of(aw.count, parts, part);
    const int64_t width = q.end - q.begin, at = aw.in_first + aw.in_step * q.begin;
    const int64_t span = (width - 1) * aw.in_step + span_taps;
    t.begin = at < 0 ? -at : 0;
    t.end = at + span > d.in_w ? d.in_w - at : span;
    const bool edge = t.begin > 0 || t.end < span;
    t.pixel = (out_base + aw.step * q.begin) * C;
    const auto run = [&](const Tiles& kinds, int64_t begin, int64_t end) {
      t.channel = begin, t.channels = end - begin;
      t.in = d.in + in_base + at * C + begin;
      t.w = d.packed + begin / kLanes * t.w_vector + w_base;
      (edge ? kinds.edge : kinds.inside)[width - 1](t);
    };
    // What the next row reads anew is asked for while this tile is summed: one piece of memory a row, all its channels.
    for (int64_t row_ahead = 0; d.in_order && row_ahead < ah.in_step; ++row_ahead) {
      const float* ahead = d.in + in_base + (t.rows - 1) * t.in_row + (row_ahead + 1) * d.in_w * C + at * C;
      for (int64_t i = 0; i < width * aw.in_step * C; i += 16) __builtin_prefetch(ahead + i, 0, 2);
    }
    if (whole_end > channel) run(tiles, channel, whole_end);
    if (channel_end > whole_end) run(tail, whole_end, channel_end);
  }
}

inline void run_depthwise(const DepthwiseCall& d) {
  const int64_t vectors = divide_up(d.channels, kLanes);
  const Cut cut = cut_for(d.N * d.out_h, vectors, num_threads());
  parallel_for(cut.row_parts * cut.channel_parts, [&](int64_t task) {
    DepthwiseCall own = d;  // reading it from another thread's stack would share lines that thread writes
    const int64_t image_floats = own.channels * (own.in_h * own.in_w + own.out_h * own.out_w);
    own.streamed = outgrows_caches(own.N * image_floats, own.channels, own.out);
    own.in_order = in_memory_order(image_floats, own.N);
    const Range rows = part_of(own.N * own.out_h, cut.row_parts, task / cut.channel_parts);
    const Range mine = part_of(vectors, cut.channel_parts, task % cut.channel_parts);
    const int64_t row_floats = own.rows[0].taps * own.in_w + own.out_w;
    const auto row = [&](int64_t n, Range h, int64_t begin, int64_t end) {
      for (int64_t phase = 0; phase < own.columns[0].step; ++phase)
        run_row(own, own.rows[h.begin % own.rows[0].step], own.columns[phase], n, h.begin / own.rows[0].step, begin,
                end);
    };
    for_each_row(rows, own.out_h, mine, own.channels, row_floats, own.in_order, row);
    if (own.streamed) flush_streams();
  });
}

inline const char* depthwise_why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_depthwise() || p.K != p.C) return "takes depthwise problems only (groups == C == K)";
  if (!p.is_2d()) return "takes no depth axis";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels last only";
  return nullptr;
}

inline size_t depthwise_packed_bytes(const ConvProblem& p) {
  return static_cast<size_t>(round_up(p.C, kLanes) * p.R * p.S) * sizeof(float);
}

inline void pack_depthwise(const ConvProblem& p, const Filter& w, void* packed) {
  const float* from = static_cast<const float*>(w.data);
  float* to = static_cast<float*>(packed);
  for (int64_t c = 0; c < p.C; c += kLanes)
    for (int64_t r = 0; r < p.R; ++r)
      for (int64_t s = 0; s < p.S; ++s, to += kLanes)
        for (int64_t lane = 0; lane < kLanes; ++lane)
          to[lane] = c + lane < p.C ? from[w.offset(c + lane, 0, 0, 0, r, s)] : 0.0f;
}

}  // namespace
}  // namespace fastconv
