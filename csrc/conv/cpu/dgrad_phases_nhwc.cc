// dx[n,h,w,c] = sum over k and the taps with p * stride - pad + r * dilation = h of dy[n,p,q,k] * w[k,c,r,s].
//
// Rows h of one remainder modulo stride_h meet the same taps, and so do columns: each of the stride_h * stride_w phases
// of dx is a convolution of unit stride of dy with a subset of the taps (none at all for most phases of a 1x1),
// computed by the register tile and written with the stride between pixels. A thread takes a block of rows of every
// phase, copies the rows of dy under them with the padding filled in, and passes the panels of each phase over the
// block.

#include "core/cpu/machine.h"
#include "core/cpu/pack_panels.h"
#include "core/cpu/panel_tile.h"
#include "core/cpu/split.h"
#include "core/kernel.h"

namespace fastconv {
namespace {

int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

/// The taps of one axis that outputs h = phase + stride * i meet: tap last - j * tap_step reads dy at
/// first + j * dilation + i, for j in [0, count).
struct AxisPhase {
  int64_t count = 0, last = 0, tap_step = 1;
  int64_t first = 0, dilation = 1;
  int64_t end() const { return first + (count - 1) * dilation + 1; }
};

AxisPhase axis_phase(int64_t phase, int64_t stride, int64_t pad, int64_t dilation, int64_t taps) {
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

AxisPhase row_phase(const ConvProblem& p, int64_t a) { return axis_phase(a, p.stride_h, p.pad_h, p.dilation_h, p.R); }
AxisPhase column_phase(const ConvProblem& p, int64_t b) {
  return axis_phase(b, p.stride_w, p.pad_w, p.dilation_w, p.S);
}

PanelPacking packing_of(const ConvProblem& p, const AxisPhase& rows, const AxisPhase& columns) {
  return {p.groups, p.K_per_group(), p.C_per_group(), rows.count * columns.count};
}

/// Calls `body(a, b, rows, columns, offset)` for each phase, `offset` its place among the packed filters in floats.
template <class Body>
void for_each_phase(const ConvProblem& p, Body&& body) {
  int64_t offset = 0;
  for (int64_t a = 0; a < p.stride_h; ++a)
    for (int64_t b = 0; b < p.stride_w; ++b) {
      const AxisPhase rows = row_phase(p, a), columns = column_phase(p, b);
      body(a, b, rows, columns, offset);
      offset += packing_of(p, rows, columns).groups * packing_of(p, rows, columns).group_floats();
    }
}

size_t packed_bytes(const ConvProblem& p) {
  size_t bytes = 0;
  for_each_phase(p, [&](int64_t, int64_t, const AxisPhase& rows, const AxisPhase& columns, int64_t) {
    bytes += packing_of(p, rows, columns).bytes();
  });
  return bytes;
}

void pack(const ConvProblem& p, const Filter& w, void* packed) {
  for_each_phase(p, [&](int64_t, int64_t, const AxisPhase& rows, const AxisPhase& columns, int64_t offset) {
    if (rows.count * columns.count == 0) return;
    Filter f = w;
    f.data = static_cast<float*>(w.data) + w.offset(0, 0, 0, 0, rows.last, columns.last);
    f.stride_k = w.stride_c, f.stride_c = w.stride_k;
    f.stride_r = -rows.tap_step * w.stride_r, f.stride_s = -columns.tap_step * w.stride_s;
    pack_panels(packing_of(p, rows, columns), rows.count, columns.count, f, static_cast<float*>(packed) + offset);
  });
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

struct Plan {
  Window rows, columns;
  int64_t height, width;            // outputs of the longest phase
  int64_t block, blocks_per_image;  // rows of each phase that share a copy
  int64_t row_floats, buffer;
  Grid grid;  // blocks x panels
};

Plan plan_for(const ConvProblem& p) {
  Plan plan;
  for (int64_t a = 0; a < p.stride_h; ++a) plan.rows.cover(row_phase(p, a));
  for (int64_t b = 0; b < p.stride_w; ++b) plan.columns.cover(column_phase(p, b));
  plan.height = divide_up(p.H, p.stride_h), plan.width = divide_up(p.W, p.stride_w);
  const int64_t span = plan.rows.end - plan.rows.begin;
  plan.row_floats = (plan.width - 1 + plan.columns.end - plan.columns.begin) * p.K;
  const int64_t panels = divide_up(p.C_per_group(), kPanel) * p.groups;
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

size_t workspace(const ConvProblem& p) {
  if (p.x_elements() == 0 || p.K == 0) return 0;
  const Plan plan = plan_for(p);
  return static_cast<size_t>(plan.grid.m * plan.grid.n * plan.buffer) * sizeof(float);
}

void fill_zero(float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = 0;
}

/// `count` rows of dy from row `first` on, the columns of the plan's window, zero outside the image.
void copy_rows(const ConvProblem& p, const Plan& plan, const float* image, int64_t first, int64_t count, float* to) {
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

void run(const ConvProblem& p, const ConvArgs& args) {
  if (p.x_elements() == 0) return;
  const float* dy = static_cast<const float*>(args.dy);
  const Plan plan = plan_for(p);
  const int64_t K = p.K_per_group(), panels_per_group = divide_up(p.C_per_group(), kPanel);

  parallel_for(plan.grid.m * plan.grid.n, [&](int64_t part) {
    float* buffer = static_cast<float*>(args.workspace) + part * plan.buffer;
    const Range blocks = part_of(p.N * plan.blocks_per_image, plan.grid.m, part / plan.grid.n);
    const Range panels = part_of(panels_per_group * p.groups, plan.grid.n, part % plan.grid.n);
    for (int64_t index = blocks.begin; index < blocks.end; ++index) {
      const int64_t n = index / plan.blocks_per_image, i0 = index % plan.blocks_per_image * plan.block;
      const int64_t rows = plan.height - i0 < plan.block ? plan.height - i0 : plan.block;
      if (rows <= 0) continue;
      copy_rows(p, plan, dy + n * p.P * p.Q * p.K, i0 + plan.rows.begin, rows - 1 + plan.rows.end - plan.rows.begin,
                buffer);
      for_each_phase(p, [&](int64_t a, int64_t b, const AxisPhase& down, const AxisPhase& across, int64_t offset) {
        const PanelPacking packing = packing_of(p, down, across);
        const bool dense_row = p.groups == 1 && across.dilation == 1;
        Runs runs{down.count, down.dilation * plan.row_floats, dense_row ? 1 : across.count, across.dilation * p.K,
                  dense_row ? across.count * K : K};
        if (packing.taps == 0) runs.outer = 0;
        const int64_t height = divide_up(p.H - a, p.stride_h), width = divide_up(p.W - b, p.stride_w);
        const int64_t last = i0 + rows < height ? i0 + rows : height;
        const Tiling tiling = tile_rows(width);
        const float* corner =
            buffer + (down.first - plan.rows.begin) * plan.row_floats + (across.first - plan.columns.begin) * p.K;
        if (packing.taps == 0) corner = buffer;
        for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
          const int64_t g = panel / panels_per_group, within = panel % panels_per_group, c0 = within * kPanel;
          const float* packed = static_cast<const float*>(args.packed) + offset + packing.offset(g, within);
          const int64_t vectors = packing.vectors(within);
          TileOut out{static_cast<float*>(args.out),
                      0,
                      p.stride_w * p.C,
                      g * p.C_per_group() + c0,
                      p.C_per_group() - c0,
                      &args.epilogue};
          for (int64_t i = i0; i < last; ++i)
            for (int64_t j = 0; j < width; j += tiling.height) {
              const int64_t tile = width - j < tiling.height ? width - j : tiling.height;
              out.pixel = ((n * p.H + a + i * p.stride_h) * p.W + b + j * p.stride_w) * p.C;
              panel_tile_for(tile, vectors)(corner + (i - i0) * plan.row_floats + j * p.K + g * K, p.K, runs, packed,
                                            out);
            }
        }
      });
    }
  });
}

const char* why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_2d()) return "takes 1-d and 2-d problems only";
  if (p.stride_h == 1 && p.stride_w == 1) return "takes strides above one only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

}  // namespace

FASTCONV_DEFINE(FASTCONV_NAME(conv_dgrad_phases_nhwc)) = {.algorithm = Algorithm::kDirect,
                                                          .why_not = why_not,
                                                          .run = run,
                                                          .workspace = workspace,
                                                          .packed_bytes = packed_bytes,
                                                          .pack = pack};

}  // namespace fastconv
