// dx[n,h,w,c] = sum over k and the taps with p * stride - pad + r * dilation = h of dy[n,p,q,k] * w[k,c,r,s], for a
// handful of input channels and strides above one.
//
// All phases of dx (phases.h) are computed at once: a column of the product is (row phase, column phase, c), so that
// the lanes of a vector, which the channels alone leave empty, are filled. The filter is packed over the window of all
// phases, zero where a phase has no tap. A tile's outputs are stride_h pieces of neighbouring rows of dx.

#include "conv/cpu/phases.h"
#include "core/cpu/panel_tile.h"

namespace fastconv {
namespace {

int64_t columns_of(const ConvProblem& p) { return p.stride_h * p.stride_w * p.C; }
int64_t vectors_of(const ConvProblem& p) { return divide_up(columns_of(p), kLanes); }

/// The window of dy under one output index, in rows and columns.
struct Windows {
  Window rows, columns;
  int64_t taps() const { return (rows.end - rows.begin) * (columns.end - columns.begin); }
};
Windows windows_of(const ConvProblem& p) { return {row_window(p), column_window(p)}; }

size_t packed_bytes(const ConvProblem& p) {
  return static_cast<size_t>(windows_of(p).taps() * p.K * vectors_of(p) * kLanes) * sizeof(float);
}

void pack(const ConvProblem& p, const Filter& w, void* packed) {
  const Windows windows = windows_of(p);
  const int64_t width = vectors_of(p) * kLanes, across = windows.columns.end - windows.columns.begin;
  float* to = static_cast<float*>(packed);
  fill_zero(to, windows.taps() * p.K * width);
  for (int64_t a = 0; a < p.stride_h; ++a)
    for (int64_t b = 0; b < p.stride_w; ++b) {
      const AxisPhase rows = row_phase(p, a), columns = column_phase(p, b);
      for (int64_t i = 0; i < rows.count; ++i)
        for (int64_t j = 0; j < columns.count; ++j) {
          const int64_t row = rows.first + i * rows.dilation - windows.rows.begin;
          const int64_t column = columns.first + j * columns.dilation - windows.columns.begin;
          const int64_t r = rows.last - i * rows.tap_step, s = columns.last - j * columns.tap_step;
          float* at = to + (row * across + column) * p.K * width + (a * p.stride_w + b) * p.C;
          for (int64_t k = 0; k < p.K; ++k)
            for (int64_t c = 0; c < p.C; ++c)
              at[k * width + c] = static_cast<const float*>(w.data)[w.offset(0, k, c, 0, r, s)];
        }
    }
}

size_t workspace(const ConvProblem& p) {
  if (p.x_elements() == 0) return 0;
  const PhasePlan plan = plan_phases(p, 1);
  return static_cast<size_t>(plan.grid.m * plan.grid.n * plan.buffer) * sizeof(float);
}

/// The sums of MR output indices, [index][column], from `rows` runs of `length` floats of the copied dy.
template <int MR, int NV>
void sum_tile(const float* dy, int64_t row_floats, int64_t step, int64_t rows, int64_t length, const float* packed,
              float* sums) {
  for_each_block({rows, row_floats, 1, 0, length}, [&](const Runs& block, int64_t from, int64_t done) {
    sum_block<MR, NV>(dy + from, step, block, packed + done * NV * kLanes, done == 0, sums, kPanel);
  });
}

bool all_finite(const float* sums, int64_t count, int64_t columns) {
  float zeros = 0;  // NaN from the first sum on that is not finite
  for (int64_t m = 0; m < count; ++m)
    for (int64_t column = 0; column < columns; ++column) zeros += sums[m * kPanel + column] * 0;
  return zeros == 0;
}

/// The sums of `sum_tile` by the taps that each phase has: where the packed filter is zero for want of one, a NaN or an
/// infinity of dy makes a NaN of a sum that does not read it.
void sum_phases(const ConvProblem& p, const PhasePlan& plan, const float* dy, int64_t count, const float* packed,
                float* sums) {
  const int64_t across = plan.columns.end - plan.columns.begin, width = vectors_of(p) * kLanes;
  for (int64_t column = 0; column < columns_of(p); ++column) {
    const AxisPhase rows = row_phase(p, column / p.C / p.stride_w),
                    columns = column_phase(p, column / p.C % p.stride_w);
    for (int64_t m = 0; m < count; ++m) {
      float sum = 0;
      for (int64_t i = 0; i < rows.count; ++i)
        for (int64_t j = 0; j < columns.count; ++j) {
          const int64_t row = rows.first + i * rows.dilation - plan.rows.begin;
          const int64_t at = columns.first + j * columns.dilation - plan.columns.begin;
          const float* pixel = dy + row * plan.row_floats + (m + at) * p.K;
          const float* weights = packed + (row * across + at) * p.K * width + column;
          for (int64_t k = 0; k < p.K; ++k) sum += pixel[k] * weights[k * width];
        }
      sums[m * kPanel + column] = sum;
    }
  }
}

/// Writes the pieces of `count` output indices from (n, i, j) on that are inside dx.
void write_pieces(const ConvProblem& p, const Epilogue& e, const float* sums, int64_t n, int64_t i, int64_t j,
                  int64_t count, float* dx) {
  for (int64_t a = 0; a < p.stride_h && i * p.stride_h + a < p.H; ++a) {
    const int64_t first = ((n * p.H + i * p.stride_h + a) * p.W + j * p.stride_w) * p.C;
    const int64_t inside = p.W - j * p.stride_w < count * p.stride_w ? p.W - j * p.stride_w : count * p.stride_w;
    const int64_t piece = p.stride_w * p.C;
    const float* from = sums + a * piece;
    for (int64_t at = 0; at < inside * p.C; at += piece, from += kPanel) {
      const int64_t length = inside * p.C - at < piece ? inside * p.C - at : piece;
      for (int64_t f = 0; f < length; ++f) dx[first + at + f] = from[f];
    }
    if (e.empty()) continue;
    for (int64_t at = first; at < first + inside * p.C; at += p.C)
      for (int64_t c = 0; c < p.C; c += kLanes) {
        const int64_t lanes = p.C - c < kLanes ? p.C - c : kLanes;
        finish_and_store(load(dx + at + c, lanes), e, dx, at, c, lanes);
      }
  }
}

void run(const ConvProblem& p, const ConvArgs& args) {
  if (p.x_elements() == 0) return;
  const PhasePlan plan = plan_phases(p, 1);
  const float* packed = static_cast<const float*>(args.packed);
  const int64_t span = plan.rows.end - plan.rows.begin, length = (plan.columns.end - plan.columns.begin) * p.K;
  const Tiling tiling = tile_rows(plan.width);

  parallel_for(plan.grid.m, [&](int64_t part) {
    float* buffer = static_cast<float*>(args.workspace) + part * plan.buffer;
    alignas(64) float sums[kTileRows * kPanel];
    const Range blocks = part_of(p.N * plan.blocks_per_image, plan.grid.m, part);
    for (int64_t index = blocks.begin; index < blocks.end; ++index) {
      const int64_t n = index / plan.blocks_per_image, i0 = index % plan.blocks_per_image * plan.block;
      const int64_t rows = plan.height - i0 < plan.block ? plan.height - i0 : plan.block;
      if (rows <= 0) continue;
      copy_rows(p, plan, static_cast<const float*>(args.dy) + n * p.P * p.Q * p.K, i0 + plan.rows.begin,
                rows - 1 + span, buffer);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < plan.width; j += tiling.height) {
          const int64_t count = plan.width - j < tiling.height ? plan.width - j : tiling.height;
          const float* dy = buffer + i * plan.row_floats + j * p.K;
          with_rows(count, [&](auto tile) {
            constexpr int kRows = decltype(tile)::value;
            if (vectors_of(p) == 1) sum_tile<kRows, 1>(dy, plan.row_floats, p.K, span, length, packed, sums);
            else sum_tile<kRows, 2>(dy, plan.row_floats, p.K, span, length, packed, sums);
          });
          if (!all_finite(sums, count, columns_of(p))) sum_phases(p, plan, dy, count, packed, sums);
          write_pieces(p, args.epilogue, sums, n, i0 + i, j, count, static_cast<float*>(args.out));
        }
    }
  });
}

const char* why_not(const ConvProblem& p) {
  if (const char* reason = phases_why_not(p)) return reason;
  if (p.groups != 1) return "takes one group only";
  if (p.stride_h > kPanel || p.stride_w > kPanel || columns_of(p) > kPanel)
    return "the channels of all phases do not fit into one tile";
  return nullptr;
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_dgrad_stem_nhwc)) = {.algorithm = Algorithm::kStem,
                                                              .why_not = why_not,
                                                              .run = run,
                                                              .workspace = workspace,
                                                              .packed_bytes = packed_bytes,
                                                              .pack = pack};

}  // namespace fastconv
