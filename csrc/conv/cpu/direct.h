// Direct convolution with a register tile of pixels by channels, for fprop and for the dgrad of unit stride.
//
// A thread takes a block of output rows, copies the input rows under them into its own buffer with the padding left and
// right filled in (so that the inner loop has no borders), and passes every filter panel over the block; filter rows
// that would read padding above or below are left out. With a dense filter the S * C values of one filter row lie next
// to each other in the copy and form one run of the inner loop.
#pragma once

#include "conv/conv.h"
#include "conv/cpu/pack_panels.h"
#include "conv/cpu/padded.h"
#include "core/cpu/machine.h"
#include "core/cpu/panel_tile.h"
#include "core/cpu/split.h"

namespace fastconv {
namespace {

inline PanelPacking direct_packing(const ConvProblem& p) {
  return {p.groups, p.C_per_group(), p.K_per_group(), p.R * p.S};
}
inline size_t direct_packed_bytes(const ConvProblem& p) { return direct_packing(p).bytes(); }
inline void direct_pack(const ConvProblem& p, const Filter& w, void* packed) {
  pack_panels(direct_packing(p), p.R, p.S, w, static_cast<float*>(packed));
}

/// Everything `run_direct` derives from the problem and the machine, in floats and rows.
struct DirectPlan {
  int64_t width;             // of a padded row, in pixels
  int64_t block;             // output rows of one image that share a copy
  int64_t blocks_per_image;  //
  int64_t padded_rows;       // input rows under a block
  Grid grid;                 // blocks x panels
  int64_t buffer;            // floats of one thread's copy
};

inline DirectPlan plan_direct(const ConvProblem& p) {
  DirectPlan plan;
  plan.width = (p.Q - 1) * p.stride_w + (p.S - 1) * p.dilation_w + 1;
  const int64_t row_floats = plan.width * p.C;
  const int64_t span = (p.R - 1) * p.dilation_h + 1;
  const int64_t panels = direct_packing(p).panels() * p.groups;
  const int64_t rows_fitting = static_cast<int64_t>(l2_bytes() / sizeof(float)) / 3 / (row_floats ? row_floats : 1);
  int64_t block = (rows_fitting - span) / p.stride_h + 1;
  block = block < 1 ? 1 : block > p.P ? p.P : block;
  const int64_t threads = num_threads();
  // A tile's worth of rows in each block, and blocks enough for every thread, unless filters outweigh the image.
  plan.grid = split(threads, p.N * p.P, panels, p.x_elements(), p.w_elements());
  const int64_t rows_each = divide_up(p.N * p.P, plan.grid.m);
  if (block > rows_each && rows_each > 0) block = rows_each;
  plan.blocks_per_image = divide_up(p.P, block);
  plan.block = divide_up(p.P, plan.blocks_per_image);
  plan.grid = split(threads, p.N * plan.blocks_per_image, panels, p.x_elements(), p.w_elements());
  plan.padded_rows = (plan.block - 1) * p.stride_h + span;
  plan.buffer = round_up(plan.padded_rows * row_floats, 16);
  return plan;
}

inline size_t direct_workspace(const ConvProblem& p) {
  if (p.y_elements() == 0) return 0;
  const DirectPlan plan = plan_direct(p);
  return static_cast<size_t>(plan.grid.m * plan.grid.n * plan.buffer) * sizeof(float);
}

inline void fill_zero(float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = 0;
}

/// The filter rows r for which first + r * dilation lies in [0, extent); the others read padding alone.
inline Range taps_inside(int64_t first, int64_t dilation, int64_t R, int64_t extent) {
  const int64_t begin = first >= 0 ? 0 : divide_up(-first, dilation);
  const int64_t end = first >= extent ? 0 : divide_up(extent - first, dilation);
  const int64_t last = end < R ? end : R;
  return {begin < last ? begin : last, last};
}

/// `width` pixels of the image row at `row`, beginning `pad` pixels before it, zero outside the image.
struct NhwcRows {
  static void copy(const ConvProblem& p, const float* image, int64_t h, int64_t width, float* to) {
    const int64_t first = p.pad_w < 0 ? -p.pad_w : 0, before = least(p.pad_w > 0 ? p.pad_w : 0, width);
    const int64_t inside = most(least(p.W - first, width - before), 0);
    const float* row = image + (h * p.W + first) * p.C;
    fill_zero(to, before * p.C);
    __builtin_memcpy(to + before * p.C, row, static_cast<size_t>(inside * p.C) * sizeof(float));
    fill_zero(to + (before + inside) * p.C, (width - before - inside) * p.C);
  }
};

/// The same from NCHW: the planes of a few channels woven together.
struct NchwRows {
  static constexpr int64_t kMostChannels = 4;

  template <int kC>
  static void weave(const float* plane, int64_t plane_floats, int64_t count, float* __restrict to) {
    for (int64_t i = 0; i < count; ++i)
#pragma GCC unroll 4
      for (int c = 0; c < kC; ++c) to[i * kC + c] = plane[c * plane_floats + i];
  }

  static void copy(const ConvProblem& p, const float* image, int64_t h, int64_t width, float* to) {
    const int64_t first = p.pad_w < 0 ? -p.pad_w : 0, before = least(p.pad_w > 0 ? p.pad_w : 0, width);
    const int64_t inside = most(least(p.W - first, width - before), 0);
    const float* row = image + h * p.W + first;
    const auto weave_row = p.C == 1 ? weave<1> : p.C == 2 ? weave<2> : p.C == 3 ? weave<3> : weave<4>;
    fill_zero(to, before * p.C);
    weave_row(row, p.H * p.W, inside, to + before * p.C);
    fill_zero(to + (before + inside) * p.C, (width - before - inside) * p.C);
  }
};

template <class Rows>
void run_direct(const ConvProblem& p, const ConvArgs& args) {
  if (p.y_elements() == 0) return;
  const float* x = static_cast<const float*>(args.x);
  const float* packed = static_cast<const float*>(args.packed);
  const PanelPacking packing = direct_packing(p);
  const DirectPlan plan = plan_direct(p);
  const int64_t row_floats = plan.width * p.C, C = packing.C;
  const int64_t panels = packing.panels() * p.groups;
  const bool dense_row = p.groups == 1 && p.dilation_w == 1;
  const Runs runs{p.R, p.dilation_h * row_floats, dense_row ? 1 : p.S, p.dilation_w * p.C, dense_row ? p.S * C : C};
  const Tiling tiling = tile_rows(p.Q);
  const int64_t a_stride = p.stride_w * p.C;

  const bool streamed = outgrows_caches(p.x_elements() + p.y_elements(), packing.K, args.out);
  parallel_for(plan.grid.m * plan.grid.n, [&](int64_t part) {
    float* buffer = static_cast<float*>(args.workspace) + part * plan.buffer;
    const Range blocks = part_of(p.N * plan.blocks_per_image, plan.grid.m, part / plan.grid.n);
    const Range my_panels = part_of(panels, plan.grid.n, part % plan.grid.n);
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      const int64_t n = block / plan.blocks_per_image, first_row = block % plan.blocks_per_image * plan.block;
      const int64_t rows = p.P - first_row < plan.block ? p.P - first_row : plan.block;
      if (rows <= 0) continue;
      const float* image = x + n * p.C * p.H * p.W;
      const int64_t copied = (rows - 1) * p.stride_h + (p.R - 1) * p.dilation_h + 1;
      for (int64_t i = 0; i < copied; ++i) {
        const int64_t h = first_row * p.stride_h - p.pad_h + i;
        if (h >= 0 && h < p.H && is_read(i, rows, p.R, p.stride_h, p.dilation_h))
          Rows::copy(p, image, h, plan.width, buffer + i * row_floats);
      }
      for (int64_t panel = my_panels.begin; panel < my_panels.end; ++panel) {
        const int64_t g = panel / packing.panels(), within = panel % packing.panels(), k0 = within * kPanel;
        const float* b = packed + packing.offset(g, within);
        const int64_t vectors = packing.vectors(within);
        TileOut out{
            static_cast<float*>(args.out), 0, p.K, g * packing.K + k0, packing.K - k0, &args.epilogue, streamed};
        for (int64_t row = 0; row < rows; ++row) {
          const Range taps = taps_inside((first_row + row) * p.stride_h - p.pad_h, p.dilation_h, p.R, p.H);
          Runs here = runs;
          here.outer = taps.end - taps.begin;
          const float* line = buffer + row * p.stride_h * row_floats + taps.begin * runs.outer_stride + g * C;
          const float* filter_rows = b + taps.begin * p.S * C * vectors * kLanes;
          for (int64_t q = 0; q < p.Q; q += tiling.height) {
            const int64_t height = p.Q - q < tiling.height ? p.Q - q : tiling.height;
            out.pixel = ((n * p.P + first_row + row) * p.Q + q) * p.K;
            panel_tile_for(height, vectors)(line + q * a_stride, a_stride, here, filter_rows, out);
          }
        }
      }
    }
    if (streamed) flush_streams();
  });
}

inline const char* direct_why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_2d()) return "takes 1-d and 2-d problems only";
  if (p.y_layout != Layout::kNhwc) return "writes channels_last only";
  return padded_copy_why_not(p);
}

inline const char* direct_nhwc_why_not(const ConvProblem& p) {
  if (const char* reason = direct_why_not(p)) return reason;
  if (p.x_layout != Layout::kNhwc) return "reads channels_last only";
  return nullptr;
}

constexpr ConvKernel kDirectNhwc = {.algorithm = Algorithm::kDirect,
                                    .why_not = direct_nhwc_why_not,
                                    .run = run_direct<NhwcRows>,
                                    .workspace = direct_workspace,
                                    .packed_bytes = direct_packed_bytes,
                                    .pack = direct_pack};

}  // namespace
}  // namespace fastconv
