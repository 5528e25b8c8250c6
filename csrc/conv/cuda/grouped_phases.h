// The phases of a grouped convolution: dense convolutions of whole rows that make every output between them.
//
// fprop of row dilation d is d of them, each over every d-th row of x and y: output row a + d i sees the rows
// a - pad + d (i + r), and column dilation is only a step between the taps. dgrad of stride 2 is four, one for each
// parity of a row and a column of dx in padded coordinates: with o = h + pad = 2 u + a, dx takes the taps r = a + 2 j
// of dy's rows u - j, as many as there are. Everything else is one phase.
#pragma once

#include "conv/cuda/grouped.h"

namespace fastconv {
namespace {

constexpr int kMostPhases = 4;

struct TapsPhase {
  int rows, columns;   // that it makes
  int out_h, out_w;    // the first of them, in the output
  int in_h, in_w;      // where tap (0, 0) of that reads
  int taps_h, taps_w;  // 0 where no tap meets the phase: its sums are zero
  int r, s;            // tap (0, 0) in the filter
};

/// `in` is x or, for dgrad, dy; strides in elements.
struct TapsShape {
  int channels, group;                  // both of the input and of the output
  int in_h, in_w, in_image;             // extents, and from image to image
  int out_row, out_image;               // strides
  int stride;                           // input rows to an output row
  int out_step_h, out_step_w;           // between neighbouring outputs of a phase
  int row_step, column_step, tap_step;  // in the input: between its rows, to the next output and to the next tap
  int tap_r;                            // between neighbouring taps in the filter
  int phases;
  TapsPhase at[kMostPhases];

  int most(int TapsPhase::* extent) const {
    int largest = 0;
    for (int i = 0; i < phases; ++i) largest = std::max(largest, at[i].*extent);
    return largest;
  }
  int most_rows() const { return most(&TapsPhase::rows); }
  int most_columns() const { return most(&TapsPhase::columns); }
  int most_taps_h() const { return most(&TapsPhase::taps_h); }
  int most_taps_w() const { return most(&TapsPhase::taps_w); }
};

/// Assumes: dilations up to kMostPhases, of 1 where the stride is not 1.
inline TapsShape fprop_taps(const ConvProblem& p) {
  const ConvShape s = shape_of(p);
  TapsShape taps = {};
  taps.channels = s.C, taps.group = s.C_per_group;
  taps.in_h = s.H, taps.in_w = s.W, taps.in_image = s.x.n;
  taps.out_row = s.y.h, taps.out_image = s.y.n;
  taps.stride = s.stride_h;
  taps.out_step_h = s.dilation_h, taps.out_step_w = 1;
  taps.row_step = s.dilation_h, taps.column_step = s.stride_w, taps.tap_step = s.dilation_w;
  taps.tap_r = 1;
  taps.phases = s.dilation_h;
  for (int a = 0; a < taps.phases; ++a)
    taps.at[a] = {(s.P - a + s.dilation_h - 1) / s.dilation_h, s.Q, a, 0, a - s.pad_h, -s.pad_w, s.R, s.S, 0, 0};
  return taps;
}

/// One axis of a phase of dgrad: of parity `a` in padded coordinates.
struct PhaseAxis {
  int count, out, in, taps, first_tap;

  PhaseAxis(int a, int stride, int pad, int extent, int filter) {
    out = ((a - pad) % stride + stride) % stride;
    count = out < extent ? (extent - 1 - out) / stride + 1 : 0;
    taps = (filter - a + stride - 1) / stride;
    in = (out + pad - a) / stride - (taps - 1);
    first_tap = a + (taps - 1) * stride;
  }
};

/// Assumes: a stride of 2 and dense filters; the filter's k and c exchanged.
inline TapsShape dgrad_taps(const ConvProblem& p) {
  const ConvShape s = shape_of(p);
  TapsShape taps = {};
  taps.channels = s.C, taps.group = s.C_per_group;
  taps.in_h = s.P, taps.in_w = s.Q, taps.in_image = s.y.n;
  taps.out_row = s.x.h, taps.out_image = s.x.n;
  taps.stride = 1;
  taps.out_step_h = taps.out_step_w = s.stride_h;
  taps.row_step = taps.column_step = taps.tap_step = 1;
  taps.tap_r = -s.stride_h;
  taps.phases = s.stride_h * s.stride_w;
  for (int i = 0; i < taps.phases; ++i) {
    const PhaseAxis h(i / s.stride_w, s.stride_h, s.pad_h, s.H, s.R), w(i % s.stride_w, s.stride_w, s.pad_w, s.W, s.S);
    taps.at[i] = {h.count, w.count, h.out, w.out, h.in, w.in, h.taps, w.taps, h.first_tap, w.first_tap};
  }
  return taps;
}

}  // namespace
}  // namespace fastconv
