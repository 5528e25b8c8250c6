// dx[n,h,w,c] = sum over k and the taps with p * stride - pad + r * dilation = h of dy[n,p,q,k] * w[k,c,r,s].
//
// Rows h of one remainder modulo stride_h meet the same taps, and so do columns: each of the phases of dx that taps
// meet, at most as many as there are taps, is a convolution of unit stride of dy with a subset of them, computed by the
// register tile and written with the stride between pixels. A thread takes a block of rows of every phase, copies the
// rows of dy under them with the padding filled in, and passes the panels of each phase over the block. Pixels between
// these phases, three quarters of them for a 1x1 at stride 2, are written as sums of nothing.

#include "conv/cpu/pack_panels.h"
#include "conv/cpu/phases.h"
#include "core/cpu/panel_tile.h"

namespace fastconv {
namespace {

int64_t panels_of(const ConvProblem& p) { return divide_up(p.C_per_group(), kPanel); }

int64_t first_channel(const ConvProblem& p, int64_t panel) {
  return panel / panels_of(p) * p.C_per_group() + panel % panels_of(p) * kPanel;
}

PanelPacking packing_of(const ConvProblem& p, const AxisPhase& rows, const AxisPhase& columns) {
  return {p.groups, p.K_per_group(), p.C_per_group(), rows.count * columns.count};
}

/// Calls `body(a, b, rows, columns, offset)` for each phase that taps meet, `offset` its place among the packed filters
/// in floats.
template <class Body>
void for_each_phase(const ConvProblem& p, Body&& body) {
  int64_t offset = 0;
  for (int64_t a = next_row_phase(p, -1); a < p.stride_h; a = next_row_phase(p, a))
    for (int64_t b = next_column_phase(p, -1); b < p.stride_w; b = next_column_phase(p, b)) {
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
    Filter f = w;
    f.data = static_cast<float*>(w.data) + w.offset(0, 0, 0, 0, rows.last, columns.last);
    f.stride_k = w.stride_c, f.stride_c = w.stride_k;
    f.stride_r = -rows.tap_step * w.stride_r, f.stride_s = -columns.tap_step * w.stride_s;
    pack_panels(packing_of(p, rows, columns), rows.count, columns.count, f, static_cast<float*>(packed) + offset);
  });
}

size_t workspace(const ConvProblem& p) {
  if (p.x_elements() == 0 || p.K == 0) return 0;
  const PhasePlan plan = plan_phases(p, panels_of(p) * p.groups);
  return static_cast<size_t>(plan.grid.m * plan.grid.n * plan.buffer) * sizeof(float);
}

/// Writes the channels `channels` of the pixels [begin, end), counted over all images, as sums of nothing.
void write_nothing(const ConvProblem& p, const Epilogue& e, int64_t begin, int64_t end, Range channels, float* dx) {
  if (e.empty() && channels.end - channels.begin == p.C) return fill_zero(dx + begin * p.C, (end - begin) * p.C);
  for (int64_t pixel = begin; pixel < end; ++pixel)
    for (int64_t c = channels.begin; c < channels.end; c += kLanes)
      finish_and_store(zero(), e, dx, pixel * p.C, c, least(kLanes, channels.end - c));
}

/// The pixels of the rows `rows` of image n that no tap meets.
void write_between(const ConvProblem& p, const Epilogue& e, int64_t n, Range rows, Range channels, float* dx) {
  for (int64_t h = rows.begin; h < rows.end; ++h) {
    const int64_t row = (n * p.H + h) * p.W, a = h % p.stride_h;
    if (next_row_phase(p, a - 1) != a) {
      write_nothing(p, e, row, row + p.W, channels, dx);
      continue;
    }
    for (int64_t b = -1; b < p.stride_w;) {
      const int64_t next = next_column_phase(p, b);  // no tap meets the columns between the two
      for (int64_t w = 0; w + b + 1 < p.W && b + 1 < next; w += p.stride_w)
        write_nothing(p, e, row + w + b + 1, row + least(w + next, p.W), channels, dx);
      b = next;
    }
  }
}

void run(const ConvProblem& p, const ConvArgs& args) {
  if (p.x_elements() == 0) return;
  const float* dy = static_cast<const float*>(args.dy);
  const PhasePlan plan = plan_phases(p, panels_of(p) * p.groups);
  const int64_t K = p.K_per_group(), panels_per_group = panels_of(p);

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
      write_between(p, args.epilogue, n, {i0 * p.stride_h, least((i0 + rows) * p.stride_h, p.H)},
                    {first_channel(p, panels.begin), first_channel(p, panels.end)}, static_cast<float*>(args.out));
      for_each_phase(p, [&](int64_t a, int64_t b, const AxisPhase& down, const AxisPhase& across, int64_t offset) {
        if (a >= p.H || b >= p.W) return;
        const PanelPacking packing = packing_of(p, down, across);
        const bool dense_row = p.groups == 1 && across.dilation == 1;
        const Runs runs{down.count, down.dilation * plan.row_floats, dense_row ? 1 : across.count,
                        across.dilation * p.K, dense_row ? across.count * K : K};
        const int64_t height = divide_up(p.H - a, p.stride_h), width = divide_up(p.W - b, p.stride_w);
        const int64_t last = i0 + rows < height ? i0 + rows : height;
        const Tiling tiling = tile_rows(width);
        const float* corner =
            buffer + (down.first - plan.rows.begin) * plan.row_floats + (across.first - plan.columns.begin) * p.K;
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

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_dgrad_phases_nhwc)) = {.algorithm = Algorithm::kDirect,
                                                                .why_not = phases_why_not,
                                                                .run = run,
                                                                .workspace = workspace,
                                                                .packed_bytes = packed_bytes,
                                                                .pack = pack};

}  // namespace fastconv
