// How the direct wgrad cuts dw and the pixels into blocks, and the blocks into parts for the threads.
#pragma once

#include "conv/conv.h"
#include "core/cpu/gemm.h"
#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

constexpr int64_t kPixels = 224;  // a block's pixels: a panel of its dy stays in L1 beside the rows of x that stream by
constexpr int64_t kRowsOfDw = 600;  // rows of dw (r, s, c) per block of channels, where there are as many

/// The same sums with fewer extents: without taps, padding and stride all pixels are one row.
inline ConvProblem flattened(const ConvProblem& problem) {
  ConvProblem p = problem;
  if (p.is_pointwise() && p.has_unit_stride() && p.P == p.H && p.Q == p.W) {
    p.W = p.Q = p.N * p.P * p.Q;
    p.N = p.H = p.P = 1;
  }
  return p;
}

/// Everything derived from the problem and the number of threads; extents are counts, the others floats.
struct Plan {
  int64_t parts_c = 1, parts_k = 1, parts_pixels = 1;
  int64_t channels, c_blocks, panels;         // of a block of channels; blocks and panels of a group
  int64_t images, rows, columns;              // of a block of pixels; images > 1 where it holds whole images
  int64_t row_blocks, column_blocks, blocks;  // blocks of an image along P and Q, and of the batch
  int64_t take_h, take_w;                     // input pixels from one copied to the next
  int64_t step_h, step_w;                     // copied pixels from one output's to the next's
  int64_t x_rows, x_columns;                  // copied pixels under a block
  int64_t x_floats, dy_floats, tile_floats;   // buffers of a part; working dw of one block of channels and one panel
  int64_t work_floats() const { return c_blocks * panels * tile_floats; }
  int64_t parts() const { return parts_c * parts_k * parts_pixels; }
  size_t bytes(int64_t groups) const {
    return static_cast<size_t>(parts() * (x_floats + dy_floats) + parts_pixels * groups * work_floats()) *
           sizeof(float);
  }
};

/// Cuts the work for `threads` parts where the least is read twice: dy by parts_c, x by parts_k, dw by parts_pixels.
inline void choose_parts(const ConvProblem& p, int64_t threads, Plan* plan) {
  const double x = static_cast<double>(p.x_elements()), dy = static_cast<double>(p.y_elements());
  const double dw = static_cast<double>(p.w_elements()), macs = static_cast<double>(p.macs());
  const auto uneven = [](int64_t count, int64_t parts) {
    return static_cast<double>(divide_up(count, parts) * parts) / static_cast<double>(count);
  };
  double best = -1;
  for (int64_t c = 1; c <= threads; ++c)
    for (int64_t k = 1; c * k <= threads; ++k) {
      const int64_t pixels = threads / (c * k);
      const int64_t c_units = p.groups * divide_up(p.C_per_group(), kTileRows);
      if (c > c_units || k > plan->panels || pixels > plan->blocks) continue;
      const double idle = static_cast<double>(threads) / static_cast<double>(c * k * pixels);
      const double product =
          macs / (2 * kLanes) * idle * uneven(c_units, c) * uneven(plan->panels, k) * uneven(plan->blocks, pixels);
      const double copies =
          static_cast<double>(c) * dy + static_cast<double>(k) * x + 3 * static_cast<double>(pixels) * dw;
      const double cost = product + copies / 4;
      if (best >= 0 && cost >= best) continue;
      best = cost;
      plan->parts_c = c, plan->parts_k = k, plan->parts_pixels = pixels;
    }
}

inline Plan plan_for(const ConvProblem& p) {
  Plan plan;
  plan.panels = divide_up(p.K_per_group(), kPanel);
  plan.take_h = p.R == 1 ? p.stride_h : 1, plan.step_h = p.R == 1 ? 1 : p.stride_h;
  plan.take_w = p.S == 1 ? p.stride_w : 1, plan.step_w = p.S == 1 ? 1 : p.stride_w;

  plan.column_blocks = divide_up(p.Q, kPixels);
  plan.columns = divide_up(p.Q, plan.column_blocks);
  plan.row_blocks = divide_up(p.P, most(1, least(p.P, kPixels / plan.columns)));
  plan.rows = divide_up(p.P, plan.row_blocks);
  const bool whole = plan.row_blocks * plan.column_blocks == 1;
  plan.images = whole ? most(1, least(p.N, kPixels / (plan.rows * plan.columns))) : 1;
  plan.blocks = divide_up(p.N, plan.images) * plan.row_blocks * plan.column_blocks;
  plan.x_rows = (plan.rows - 1) * plan.step_h + (p.R - 1) * p.dilation_h + 1;
  plan.x_columns = (plan.columns - 1) * plan.step_w + (p.S - 1) * p.dilation_w + 1;
  choose_parts(p, num_threads(), &plan);

  const int64_t x_pixels = plan.images * plan.x_rows * plan.x_columns;
  const int64_t fitting = static_cast<int64_t>(l2_bytes() / sizeof(float)) / 2 / x_pixels;
  const int64_t wanted = most(kTileRows, least(fitting, divide_up(kRowsOfDw, p.R * p.S)));
  plan.c_blocks = most(divide_up(p.C_per_group(), wanted), divide_up(plan.parts_c, p.groups));
  plan.channels = divide_up(p.C_per_group(), plan.c_blocks);
  plan.c_blocks = divide_up(p.C_per_group(), plan.channels);
  plan.x_floats = round_up(x_pixels * plan.channels, 16);
  plan.dy_floats = plan.images * plan.rows * plan.columns * kPanel;
  plan.tile_floats = p.R * p.S * plan.channels * kPanel;
  return plan;
}

/// One block of pixels: its first image and output pixel, and its extents.
struct Block {
  int64_t n, p, q, images, rows, columns;
};
inline Block block_at(const ConvProblem& p, const Plan& plan, int64_t index) {
  const int64_t n = index / (plan.row_blocks * plan.column_blocks) * plan.images;
  const int64_t row = index / plan.column_blocks % plan.row_blocks * plan.rows;
  const int64_t column = index % plan.column_blocks * plan.columns;
  return {n,
          row,
          column,
          least(plan.images, p.N - n),
          most(0, least(plan.rows, p.P - row)),
          most(0, least(plan.columns, p.Q - column))};
}

}  // namespace
}  // namespace fastconv
