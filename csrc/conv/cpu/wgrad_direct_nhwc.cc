// dw[k,c,r,s] = sum over n,p,q of x[n,p',q',c] * dy[n,p,q,k], with p' = p * stride - pad + r * dilation, on NHWC.
//
// A matrix product whose sum runs over pixels: rows are the (s, c) values that lie next to each other in an image row,
// columns are k. A block of pixels is copied: x with its padding filled in, dy by panels of k. Each register tile of dw
// sums one block and is then added to the working dw, which keeps long sums short in float32. Parts are cut by blocks
// of channels, panels and pixels, as costs least; parts that share weights are added in their order, so the result does
// not depend on timing. The last pass writes dw through the weight's own strides.

#include "conv/cpu/padded.h"
#include "conv/cpu/wgrad_plan.h"
#include "conv/cpu/write_dw.h"
#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

FASTCONV_INLINE void copy_floats(const float* from, float* to, int64_t count) {
  for (; count >= kLanes; count -= kLanes, from += kLanes, to += kLanes) store(to, load(from));
  if (count) store(to, load(from, count), count);
}
FASTCONV_INLINE void fill_zero(float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = 0;
}

/// The pixels of x under a block, channels [c, c + channels), zero where the image ends.
void copy_x(const ConvProblem& p, const Plan& plan, const Block& block, const float* x, int64_t c, int64_t channels,
            float* to) {
  const int64_t first = block.q * p.stride_w - p.pad_w;
  const int64_t before = first >= 0 ? 0 : least(plan.x_columns, divide_up(-first, plan.take_w));
  const int64_t end = p.W > first ? most(before, least(plan.x_columns, divide_up(p.W - first, plan.take_w))) : before;
  const bool contiguous = channels == p.C && plan.take_w == 1;
  for (int64_t i = 0; i < block.images; ++i)
    for (int64_t row = 0; row < plan.x_rows; ++row, to += plan.x_columns * channels) {
      if (!is_read(row, block.rows, p.R, plan.step_h, p.dilation_h)) continue;
      const int64_t h = block.p * p.stride_h - p.pad_h + row * plan.take_h;
      if (h < 0 || h >= p.H) {
        fill_zero(to, plan.x_columns * channels);
        continue;
      }
      const float* from = x + (((block.n + i) * p.H + h) * p.W + first) * p.C + c;
      fill_zero(to, before * channels);
      if (contiguous) {
        copy_floats(from + before * p.C, to + before * channels, (end - before) * channels);
      } else {
        for (int64_t j = before; j < end; ++j) copy_floats(from + j * plan.take_w * p.C, to + j * channels, channels);
      }
      fill_zero(to + end * channels, (plan.x_columns - end) * channels);
    }
}

/// The block's pixels of dy, channels [k, k + n): NV vectors a pixel, one pixel after the other.
template <int NV>
void pack_dy(const ConvProblem& p, const Block& block, const float* dy, int64_t k, int64_t n, float* to) {
  for (int64_t i = 0; i < block.images; ++i)
    for (int64_t row = 0; row < block.rows; ++row) {
      const float* from = dy + (((block.n + i) * p.P + block.p + row) * p.Q + block.q) * p.K + k;
      for (int64_t j = 0; j < block.columns; ++j, from += p.K, to += NV * kLanes) {
        if (n == NV * kLanes) {
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) store(to + v * kLanes, load(from + v * kLanes));
        } else {
#pragma GCC unroll 4
          for (int v = 0; v < NV - 1; ++v) store(to + v * kLanes, load(from + v * kLanes));
          store(to + (NV - 1) * kLanes, load(from + (NV - 1) * kLanes, n - (NV - 1) * kLanes));
        }
      }
    }
}

/// The runs of pixels that one tile sums over: `images` times `rows` of `length`.
struct Runs {
  int64_t images, rows, length;
  int64_t image_step, row_step, step;  // of the copied x
};

template <int MR, int NV>
__attribute__((noinline)) void tile(const Runs& runs, const float* x, const float* dy, Ahead ahead, bool first,
                                    float* dw) {
  Vec acc[MR][NV];
  clear(acc);
  for (int64_t i = 0; i < runs.images; ++i)
    for (int64_t row = 0; row < runs.rows; ++row) {
      accumulate_transposed<MR, NV>(acc, x + i * runs.image_step + row * runs.row_step, runs.step, dy, runs.length,
                                    ahead);
      dy += runs.length * NV * kLanes;
    }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      float* to = dw + i * kPanel + j * kLanes;
      store(to, first ? acc[i][j] : load(to) + acc[i][j]);
    }
}

/// Memory of the next block, fetched piece by piece while this block is summed: packing waits for memory otherwise.
struct Stream {
  const float *at, *end;
  int64_t step;
  bool left() const { return at < end; }
  Ahead take(int64_t pieces) {
    const Ahead ahead{at, step};
    at += pieces * step;
    return ahead;
  }
};

/// The pixels of x under a block, where they are read whole.
Stream x_stream(const ConvProblem& p, const Plan& plan, const Block& block, const float* x, int64_t channels) {
  if (channels != p.C || plan.take_w != 1) return {x, x, 0};
  const int64_t h = least(p.H, most(0, block.p * p.stride_h - p.pad_h));
  const int64_t w = least(p.W, most(0, block.q * p.stride_w - p.pad_w));
  const float* from = x + ((block.n * p.H + h) * p.W + w) * p.C;
  const float* end = x + p.x_elements();
  const int64_t floats = block.images * plan.x_rows * plan.x_columns * p.C;
  return {from, end - from < floats ? end : from + floats, kPanel};
}

/// Adds one block of pixels to the working dw of one block of channels and one panel.
template <int NV>
void add_block(const ConvProblem& p, const Plan& plan, const Block& block, const float* x, int64_t channels,
               const float* dy, Stream next_dy, Stream* next_x, bool first, float* dw) {
  const int64_t row_floats = plan.x_columns * channels;
  Runs runs{block.images,          block.rows, block.columns, plan.x_rows * row_floats, plan.step_h * row_floats,
            plan.step_w * channels};
  if (plan.x_columns == block.columns && plan.x_rows == block.rows)
    runs = {1, 1, block.images * block.rows * block.columns, 0, 0, channels};
  const bool dense_row = p.dilation_w == 1;
  const int64_t segments = dense_row ? 1 : p.S, length = dense_row ? p.S * channels : channels;
  const Tiling tiling = tile_rows(length);
  const int64_t fetches = block.images * block.rows * (block.columns / 4);
  for (int64_t r = 0; r < p.R; ++r)
    for (int64_t s = 0; s < segments; ++s) {
      const float* from = x + r * p.dilation_h * row_floats + s * p.dilation_w * channels;
      for (int64_t m = 0; m < length; m += tiling.height) {
        const Ahead ahead = next_dy.left()   ? next_dy.take(fetches)
                            : next_x->left() ? next_x->take(fetches)
                                             : Ahead{dy, 0};
        with_rows(least(tiling.height, length - m), [&](auto rows) {
          tile<decltype(rows)::value, NV>(runs, from + m, dy, ahead, first, dw + m * kPanel);
        });
      }
      dw += length * kPanel;
    }
}

size_t workspace(const ConvProblem& problem) {
  if (problem.y_elements() == 0 || problem.w_elements() == 0) return 0;
  const ConvProblem p = flattened(problem);
  return plan_for(p).bytes(p.groups);
}

void run(const ConvProblem& problem, const ConvArgs& args) {
  if (problem.y_elements() == 0 || problem.w_elements() == 0) return zero_dw(problem, args.w);
  const ConvProblem p = flattened(problem);
  const Plan plan = plan_for(p);
  const float* x = static_cast<const float*>(args.x);
  const float* dy = static_cast<const float*>(args.dy);
  const int64_t units = p.groups * plan.c_blocks, part_floats = p.groups * plan.work_floats();
  float* work = static_cast<float*>(args.workspace) + plan.parts() * (plan.x_floats + plan.dy_floats);
  const auto tile_at = [&](int64_t unit, int64_t panel) {
    return work + (unit * plan.panels + panel) * plan.tile_floats;
  };
  const auto channels_of = [&](int64_t unit) {
    return least(plan.channels, p.C_per_group() - unit % plan.c_blocks * plan.channels);
  };

  parallel_for(plan.parts(), [&](int64_t part) {
    float* x_copy = static_cast<float*>(args.workspace) + part * (plan.x_floats + plan.dy_floats);
    float* dy_copy = x_copy + plan.x_floats;
    const int64_t pixel_part = part % plan.parts_pixels;
    const Range blocks = part_of(plan.blocks, plan.parts_pixels, pixel_part);
    const Range panels = part_of(plan.panels, plan.parts_k, part / plan.parts_pixels % plan.parts_k);
    const Range mine = part_of(units, plan.parts_c, part / (plan.parts_pixels * plan.parts_k));
    for (int64_t unit = mine.begin; unit < mine.end; ++unit)
      for (int64_t index = blocks.begin; index < blocks.end; ++index) {
        const Block block = block_at(p, plan, index);
        const int64_t g = unit / plan.c_blocks, c = unit % plan.c_blocks * plan.channels, channels = channels_of(unit);
        copy_x(p, plan, block, x, g * p.C_per_group() + c, channels, x_copy);
        const Block next = block_at(p, plan, index + 1 < blocks.end ? index + 1 : blocks.begin);
        const int64_t pixels = next.images * next.rows * next.columns;
        const float* next_dy_pixel = dy + ((next.n * p.P + next.p) * p.Q + next.q) * p.K + g * p.K_per_group();
        Stream next_x = x_stream(p, plan, next, x, channels);
        for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
          const int64_t k = panel * kPanel, n = least(kPanel, p.K_per_group() - k);
          float* dw = tile_at(unit, panel) + pixel_part * part_floats;
          const bool first = index == blocks.begin;
          const Stream next_dy{next_dy_pixel + k, next_dy_pixel + k + pixels * p.K, p.K};
          if (n > kLanes) {
            pack_dy<2>(p, block, dy, g * p.K_per_group() + k, n, dy_copy);
            add_block<2>(p, plan, block, x_copy, channels, dy_copy, next_dy, &next_x, first, dw);
          } else {
            pack_dy<1>(p, block, dy, g * p.K_per_group() + k, n, dy_copy);
            add_block<1>(p, plan, block, x_copy, channels, dy_copy, next_dy, &next_x, first, dw);
          }
        }
      }
  });

  const int64_t tiles = units * plan.panels, tasks = least(tiles, num_threads());
  parallel_for(tasks, [&](int64_t task) {
    const Range mine = part_of(tiles, tasks, task);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      const int64_t unit = i / plan.panels, panel = i % plan.panels, k = panel * kPanel;
      write_dw(p, args.w, unit / plan.c_blocks, k, least(kPanel, p.K_per_group() - k),
               unit % plan.c_blocks * plan.channels, channels_of(unit), tile_at(unit, panel), plan.parts_pixels,
               part_floats);
    }
  });
}

const char* why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_2d()) return "takes 1-d and 2-d problems only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "reads channels_last only";
  if (p.groups > 1 && p.K_per_group() < kLanes) return "groups of fewer output channels than a vector has lanes";
  if (p.groups > 1 && p.C_per_group() * p.S < 8) return "groups of a few input channels leave a tile of few rows";
  return padded_copy_why_not(p);
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_wgrad_direct_nhwc)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
