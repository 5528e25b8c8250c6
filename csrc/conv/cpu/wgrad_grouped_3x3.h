// The grouped wgrad of a dense 3x3 filter at unit stride: all nine taps in one walk over x.
//
// An input vector, permuted or broadcast for one channel of each group, meets the nine dy vectors around it, so that
// one permutation serves nine sums: kPair channels times nine taps are all that the registers hold. Bands of rows of x
// and of dy are copied to L1, where pixels follow each other: in the image those of one vector share few of its sets.
#pragma once

#include <type_traits>

#include "conv/cpu/grouped.h"

namespace fastconv {
namespace {

constexpr int kPair = Vec::kRegisters == 32 ? 2 : 1;

template <int kRow>
constexpr std::integral_constant<int, kRow> kTapRow = {};

/// Where a vector's sums begin: [vector][r][channel of the group][s][lane], and behind all of them their rests.
inline int64_t sums_of(const ConvProblem& p, int64_t vector) { return vector * p.R * p.C_per_group() * p.S * kLanes; }

/// What a vector of outputs reads of a pixel: the vector itself, or its whole group where that is wider.
inline int64_t x_width(const ConvProblem& p) { return p.C_per_group() < kLanes ? kLanes : p.C_per_group(); }

inline void copy_pixels(const float* from, float* to, int64_t pixels, int64_t pixel, int64_t width) {
  for (int64_t i = 0; i < pixels; ++i, from += pixel)
    for (int64_t c = 0; c < width; c += kLanes, to += kLanes) store(to, load(from + c));
}

/// Some rows and columns of x, for one output vector and kPair channels of its group.
struct Sweep3x3 {
  const ConvProblem* p;
  const float *x, *dy;  // row 0 and column 0 of the images, of which the band's rows are there
  int64_t x_pixel;      // floats between pixels of x; those of dy are kLanes apart
  Range rows, columns;  // of x
  const float* ahead;   // what is asked for meanwhile, a line a pixel, at row 0 and column 0
  int64_t ahead_pixel;  // 0: nothing
  int64_t channel;      // the first of the pair
  LaneIndex lanes[kPair];
  float *total, *rest;  // of the vector's sums
};

template <bool kPermute>
void sweep_3x3(const Sweep3x3& t) {
  const int64_t x_pixel = t.x_pixel, P = t.p->P, Q = t.p->Q, pad = t.p->pad_w;
  Vec sum[3][3][kPair];
#pragma GCC unroll 3
  for (int r = 0; r < 3; ++r)
#pragma GCC unroll 3
    for (int s = 0; s < 3; ++s)
#pragma GCC unroll 2
      for (int c = 0; c < kPair; ++c) sum[r][s][c] = zero();
  LaneIndex lanes[kPair];
  for (int c = 0; c < kPair; ++c) lanes[c] = t.lanes[c];
  // The columns that all three taps reach.
  const int64_t begin = least(most(t.columns.begin, 2 - pad), t.columns.end);
  const int64_t end = most(least(t.columns.end, Q - pad), begin);
  for (int64_t h = t.rows.begin; h < t.rows.end; ++h) {
    const float* x = t.x + h * t.p->W * x_pixel + (kPermute ? 0 : t.channel);
    const int64_t row = h + t.p->pad_h;                 // of dy, through tap row 0; tap row r is r rows above
    const float* dy = t.dy + (row * Q + pad) * kLanes;  // column 0, through tap 0
    const int64_t above = Q * kLanes;
    const float* ahead = t.ahead + h * t.p->W * t.ahead_pixel;
    // With the tap rows first to last, which have a row of dy.
    const auto walk = [&](auto first, auto last) {
      const auto pixel = [&](int64_t w, auto inside) {
        const float* from = x + w * x_pixel;
        __builtin_prefetch(ahead + w * t.ahead_pixel, 0, 2);
        Vec v[kPair];
        const Vec all = kPermute ? in_register(load(from)) : zero();
#pragma GCC unroll 2
        for (int c = 0; c < kPair; ++c) v[c] = kPermute ? permute(all, lanes[c]) : in_register(broadcast(from[c]));
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s) {
          if (!inside && (w + pad - s < 0 || w + pad - s >= Q)) continue;
#pragma GCC unroll 3
          for (int r = 0; r < 3; ++r) {
            if (r < first || r > last) continue;
            const Vec d = in_register(load(dy - r * above + (w - s) * kLanes));
#pragma GCC unroll 2
            for (int c = 0; c < kPair; ++c) sum[r][s][c] = fma(v[c], d, sum[r][s][c]);
          }
        }
      };
      for (int64_t w = t.columns.begin; w < begin; ++w) pixel(w, std::false_type{});
      for (int64_t w = begin; w < end; ++w) pixel(w, std::true_type{});
      for (int64_t w = end; w < t.columns.end; ++w) pixel(w, std::false_type{});
    };
    switch (3 * most(row - P + 1, 0) + least(row, 2)) {  // 3 * first + last; no case where none has a row
      case 0: walk(kTapRow<0>, kTapRow<0>); break;
      case 1: walk(kTapRow<0>, kTapRow<1>); break;
      case 2: walk(kTapRow<0>, kTapRow<2>); break;
      case 4: walk(kTapRow<1>, kTapRow<1>); break;
      case 5: walk(kTapRow<1>, kTapRow<2>); break;
      case 8: walk(kTapRow<2>, kTapRow<2>); break;
    }
  }
  float *total = t.total + t.channel * 3 * kLanes, *rest = t.rest + t.channel * 3 * kLanes;
  const int64_t tap_row = t.p->C_per_group() * 3 * kLanes;
#pragma GCC unroll 3
  for (int r = 0; r < 3; ++r, total += tap_row, rest += tap_row)
#pragma GCC unroll 2
    for (int c = 0; c < kPair; ++c)
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s) add_to_pair(total + (c * 3 + s) * kLanes, rest + (c * 3 + s) * kLanes, sum[r][s][c]);
}

/// Whether the problem is this file's.
inline bool is_dense_3x3(const ConvProblem& p) {
  return p.R == 3 && p.S == 3 && p.has_unit_stride() && p.dilation_h == 1 && p.dilation_w == 1;
}

/// Rows of x that are copied at once, with two more of dy.
inline int64_t rows_at_once(const ConvProblem& p) {
  const int64_t row_bytes = (p.W * x_width(p) + p.Q * kLanes) * static_cast<int64_t>(sizeof(float));
  const int64_t fitting = static_cast<int64_t>(l1_bytes()) * 3 / 4 / row_bytes - 1;
  return most(1, least(fitting, p.H));
}

inline int64_t copies_3x3(const ConvProblem& p) {
  return round_up(rows_at_once(p) * p.W * x_width(p) + (rows_at_once(p) + 2) * p.Q * kLanes, 16);
}

/// Adds to the sums of the vectors `vectors` what the rows `rows` of x, counted over all images, contribute.
inline void sum_part_3x3(const ConvProblem& p, const float* x, const float* dy, float* sums, float* copies, Range rows,
                         Range vectors) {
  const int64_t group = p.C_per_group(), at_once = rows_at_once(p);
  const bool permute = group < kLanes;
  Sweep3x3 t;
  t.p = &p, t.x_pixel = x_width(p);
  float *x_copy = copies, *dy_copy = copies + at_once * p.W * t.x_pixel;
  const int64_t stripes = divide_up(p.W, kChain), chained = most(1, kChain / most(1, p.W));
  const int64_t turns = divide_up(group / kPair, 2);  // the sweeps of a band, in pairs, share the asking
  const auto band = [&](int64_t n, Range mine, int64_t v) {
    const int64_t k = v * kLanes, first_channel = permute ? k : k / group * group;
    const Range under = {most(mine.begin + p.pad_h - 2, 0), least(mine.end + p.pad_h, p.P)};  // rows of dy
    if (under.begin >= under.end) return;
    copy_pixels(x + (n * p.H + mine.begin) * p.W * p.C + first_channel, x_copy, (mine.end - mine.begin) * p.W, p.C,
                t.x_pixel);
    copy_pixels(dy + (n * p.P + under.begin) * p.Q * p.K + k, dy_copy, (under.end - under.begin) * p.Q, p.K, kLanes);
    t.x = x_copy - mine.begin * p.W * t.x_pixel, t.dy = dy_copy - under.begin * p.Q * kLanes;
    t.total = sums + sums_of(p, v), t.rest = t.total + p.w_elements();
    const float* x_ahead = x + (n * p.H + at_once) * p.W * p.C + first_channel;
    const float* dy_ahead = dy + (n * p.P + at_once + p.pad_h) * p.Q * p.K + k;
    LaneIndex lane = first_of_group(permute ? group : kLanes);
    for (t.channel = 0; t.channel < group; t.channel += kPair) {
      for (int c = 0; c < kPair; ++c, lane = next(lane)) t.lanes[c] = lane;
      for (int64_t row = mine.begin; row < mine.end; row += chained)
        for (int64_t stripe = 0; stripe < stripes; ++stripe) {
          const bool asks = (row - mine.begin) / chained % turns == t.channel / kPair / 2;
          t.ahead = t.channel / kPair % 2 ? dy_ahead : x_ahead;
          t.ahead_pixel = asks ? p.C : 0;
          t.rows = {row, least(row + chained, mine.end)}, t.columns = part_of(p.W, stripes, stripe);
          (permute ? sweep_3x3<true> : sweep_3x3<false>)(t);
        }
    }
  };
  for (int64_t v = vectors.begin; v < vectors.end; ++v)
    for (int64_t begin = rows.begin; begin < rows.end;) {
      const int64_t n = begin / p.H, end = least(rows.end, (n + 1) * p.H);
      for (int64_t row = begin; row < end; row += at_once)
        band(n, {row - n * p.H, least(row + at_once, end) - n * p.H}, v);
      begin = end;
    }
}

}  // namespace
}  // namespace fastconv
