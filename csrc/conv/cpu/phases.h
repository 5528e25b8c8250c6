// The dgrad of strides above one, seen as convolutions of unit stride.
//
// Rows h of dx of one remainder modulo stride_h meet the same taps, and so do columns: a phase. Index i counts the
// outputs of a phase, h = phase + stride_h * i. All phases together read a window of dy that moves with i; a block of
// rows of it is copied with the padding filled in.
#pragma once

#include "conv/conv.h"
#include "conv/cpu/padded.h"
#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"
#include "core/cpu/split.h"

namespace fastconv {
namespace {

inline int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

/// The taps of one axis that outputs h = phase + stride * i meet: tap last - j * tap_step reads dy at
/// first + j * dilation + i, for j in [0, count).
struct AxisPhase {
  int64_t count = 0, last = 0, tap_step = 1;
  int64_t first = 0, dilation = 1;
  int64_t end() const { return first + (count - 1) * dilation + 1; }
};

inline AxisPhase axis_phase(int64_t phase, int64_t stride, int64_t pad, int64_t dilation, int64_t taps) {
  const int64_t divisor = greatest_common_divisor(stride, dilation);
  AxisPhase axis;
  axis.tap_step = stride / divisor, axis.dilation = dilation / divisor;
  for (int64_t r = 0; r < taps; ++r) {
    if ((phase + pad - r * dilation) % stride != 0) continue;
    ++axis.count;
    axis.last = r;
    axis.first = (phase + pad - r * dilation) / stride;
  }
  return axis;
}

inline AxisPhase row_phase(const ConvProblem& p, int64_t a) {
  return axis_phase(a, p.stride_h, p.pad_h, p.dilation_h, p.R);
}
inline AxisPhase column_phase(const ConvProblem& p, int64_t b) {
  return axis_phase(b, p.stride_w, p.pad_w, p.dilation_w, p.S);
}

/// The least phase after `phase`, where -1 is before all, that a tap meets; `stride` where none does. There are as many
/// as taps at most, however large the stride.
inline int64_t next_phase(int64_t phase, int64_t stride, int64_t pad, int64_t dilation, int64_t taps) {
  int64_t next = stride;
  for (int64_t r = 0; r < taps; ++r) {
    const int64_t rest = (r * dilation - pad) % stride, met = rest < 0 ? rest + stride : rest;
    if (met > phase && met < next) next = met;
  }
  return next;
}
inline int64_t next_row_phase(const ConvProblem& p, int64_t a) {
  return next_phase(a, p.stride_h, p.pad_h, p.dilation_h, p.R);
}
inline int64_t next_column_phase(const ConvProblem& p, int64_t b) {
  return next_phase(b, p.stride_w, p.pad_w, p.dilation_w, p.S);
}

/// The part of dy under all phases of an axis, relative to the phases' index i.
struct Window {
  int64_t begin = 0, end = 1;
  void cover(const AxisPhase& axis) {
    if (axis.count == 0) return;
    begin = axis.first < begin ? axis.first : begin;
    end = axis.end() > end ? axis.end() : end;
  }
};

inline Window row_window(const ConvProblem& p) {
  Window window;
  for (int64_t a = next_row_phase(p, -1); a < p.stride_h; a = next_row_phase(p, a)) window.cover(row_phase(p, a));
  return window;
}
inline Window column_window(const ConvProblem& p) {
  Window window;
  for (int64_t b = next_column_phase(p, -1); b < p.stride_w; b = next_column_phase(p, b))
    window.cover(column_phase(p, b));
  return window;
}

/// Blocks of rows and the grid of parts.
struct PhasePlan {
  Window rows, columns;
  int64_t height, width;            // outputs of the longest phase
  int64_t block, blocks_per_image;  // rows of each phase that share a copy
  int64_t row_floats, buffer;
  Grid grid;  // blocks x panels
};

/// `panels` is the number of panels of output channels, of all phases or of each.
inline PhasePlan plan_phases(const ConvProblem& p, int64_t panels) {
  PhasePlan plan;
  plan.rows = row_window(p), plan.columns = column_window(p);
  plan.height = divide_up(p.H, p.stride_h), plan.width = divide_up(p.W, p.stride_w);
  const int64_t span = plan.rows.end - plan.rows.begin;
  plan.row_floats = (plan.width - 1 + plan.columns.end - plan.columns.begin) * p.K;
  const int64_t fitting = static_cast<int64_t>(l2_bytes() / sizeof(float)) / 3 / plan.row_floats - span + 1;
  const Grid rough = split(num_threads(), p.N * plan.height, panels, p.y_elements(), p.w_elements());
  const int64_t each = divide_up(p.N * plan.height, rough.m);
  int64_t block = fitting < 1 ? 1 : fitting < each ? fitting : each;
  block = block < plan.height ? block : plan.height;
  plan.blocks_per_image = divide_up(plan.height, block);
  plan.block = divide_up(plan.height, plan.blocks_per_image);
  plan.grid = split(num_threads(), p.N * plan.blocks_per_image, panels, p.y_elements(), p.w_elements());
  plan.buffer = round_up((plan.block - 1 + span) * plan.row_floats, 16);
  return plan;
}

inline void fill_zero(float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = 0;
}

/// `count` rows of dy from row `first` on, the columns of the plan's window, zero outside the image.
inline void copy_rows(const ConvProblem& p, const PhasePlan& plan, const float* image, int64_t first, int64_t count,
                      float* to) {
  const int64_t width = plan.row_floats / p.K, begin = plan.columns.begin;
  const int64_t before = begin < 0 ? (-begin < width ? -begin : width) : 0;
  const int64_t there = p.Q - begin < width ? p.Q - begin : width;
  const int64_t end = there > before ? there : before;
  for (int64_t i = 0; i < count; ++i, to += plan.row_floats) {
    const int64_t row = first + i;
    if (row < 0 || row >= p.P) {
      fill_zero(to, plan.row_floats);
      continue;
    }
    fill_zero(to, before * p.K);
    if (end > before)
      __builtin_memcpy(to + before * p.K, image + (row * p.Q + begin + before) * p.K,
                       static_cast<size_t>((end - before) * p.K) * sizeof(float));
    fill_zero(to + end * p.K, (width - end) * p.K);
  }
}

/// Whether a problem has phases and lies as their kernels read it.
inline const char* phases_why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_2d()) return "takes 1-d and 2-d problems only";
  if (p.stride_h == 1 && p.stride_w == 1) return "takes strides above one only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return padded_copy_why_not(p);
}

}  // namespace
}  // namespace fastconv
