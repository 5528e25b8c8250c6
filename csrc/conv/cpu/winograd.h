// F(m x m, 3x3) on NHWC: y[n,p,q,k] by tiles of m x m outputs, each from (m + 2)^2 inputs.
//
// Three steps: V[position][tile][c] from x, M[position][tile][k] = V * packed filter for each position, y from M with
// the epilogue. A dilated problem is dilation_h * dilation_w interleaved ones, whose tiles are simply more tiles.
// Two ways to cut the work, chosen by WinogradPlan: each thread takes blocks of tiles and does all three steps on them;
// or all threads transform all tiles, and then each takes panels of output channels. M of a chunk of panels is
// transformed while it is in cache.
//
// Sums of transformed values leave the range of float32 where the plain sums do not, and spread an infinity or a NaN
// over their tile. So a tile's vector of outputs that is not all finite is summed anew, plainly (winograd_plain.h).
#pragma once

#include "conv/cpu/winograd_plain.h"
#include "conv/cpu/winograd_plan.h"
#include "conv/cpu/winograd_products.h"
#include "core/cpu/epilogue.h"

namespace fastconv {
namespace {

template <int kM>
struct Winograd {
  using T = Transform<kM>;
  static constexpr int kTile = T::kTile, kPositions = T::kPositions;
  using Grid = WinogradGrid<kM>;

  static const char* why_not(const ConvProblem& p) {
    if (p.dtype != DType::kFloat32) return "takes float32 only";
    if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels last on both sides";
    if (!p.is_2d()) return "takes 2-d problems only";
    if (p.R != 3 || p.S != 3) return "takes 3x3 filters only";
    if (!p.has_unit_stride()) return "takes stride 1 only";
    if (p.groups > 1 && p.C_per_group() % 8 != 0) return "takes groups of a multiple of 8 input channels";
    if (p.groups > 1 && p.K_per_group() % 8 != 0) return "takes groups of a multiple of 8 output channels";
    return nullptr;
  }

  static size_t workspace(const ConvProblem& p) {
    const WinogradPlan plan{WinogradPanels(p), Grid(p).tiles, kPositions};
    return static_cast<size_t>((plan.shared ? plan.v_floats() : 0) + num_threads() * plan.thread_floats()) * 4;
  }

  static size_t packed_bytes(const ConvProblem& p) { return WinogradPacking<kM>::bytes(p); }
  static void pack(const ConvProblem& p, const Filter& w, void* packed) { WinogradPacking<kM>::pack(p, w, packed); }

  /// Which of the `count` pixels at, at + step, ... lie in [0, extent).
  static Range inside(int64_t at, int64_t step, int64_t extent, int64_t count = kTile) {
    if (at >= 0 && at + (count - 1) * step < extent) return {0, count};
    Range range{0, 0};
    while (range.begin < count && at + range.begin * step < 0) ++range.begin;
    range.end = range.begin;
    while (range.end < count && at + range.end * step < extent) ++range.end;
    return range;
  }

  // The transforms are kept out of line: one copy of each, and no buffer in sight that the compiler would rather hold
  // in registers.

  __attribute__((noinline)) static void input(const float* x, int64_t row, int64_t column, float* v, int64_t position) {
    T::input([&](int r, int s) __attribute__((always_inline)) { return load(x + r * row + s * column); }, v, position);
  }

  /// Of a tile at the border: pixel (r, s) lies at pixels[r * kTile + s] + offset.
  __attribute__((noinline)) static void input_border(const float* const* pixels, int64_t offset, float* v,
                                                     int64_t position) {
    T::input([&](int r, int s) __attribute__((always_inline)) { return load(pixels[r * kTile + s] + offset); }, v,
             position);
  }

  // Both tell whether all sums are finite: what they add up to is not where one of them is not.

  __attribute__((noinline)) static bool output(const float* m, int64_t position, float* y) {
    Vec total = zero();
    T::output(m, position, [&](int r, int s, Vec value) __attribute__((always_inline)) {
      store(y + (r * kM + s) * kLanes, value);
      total = total + value;
    });
    return all_finite(total);
  }

  /// A whole tile whose epilogue is max(low, scale * sum + shift).
  __attribute__((noinline)) static bool output_simple(const float* m, int64_t position, const Epilogue& e,
                                                      int64_t channel, float* y, int64_t row, int64_t column) {
    const Vec scale = e.scale ? load(static_cast<const float*>(e.scale) + channel) : broadcast(1);
    const Vec shift = e.shift ? load(static_cast<const float*>(e.shift) + channel) : zero();
    const Vec low = broadcast(e.activation == Activation::kRelu ? 0 : -__builtin_inff());
    Vec total = zero();
    T::output(m, position, [&](int r, int s, Vec value) __attribute__((always_inline)) {
      store(y + r * row + s * column, max(low, fma(value, scale, shift)));
      total = total + value;
    });
    return all_finite(total);
  }

  /// One call's operands with everything derived from them.
  struct Call {
    const ConvProblem& p;
    const float* x;
    const Filter& w;
    float* y;
    const Epilogue& epilogue;
    const float* packed;
    float* workspace;
    WinogradPanels cut;
    Grid grid;
    WinogradPlan plan;

    Call(const ConvProblem& problem, const ConvArgs& args)
        : p(problem),
          x(static_cast<const float*>(args.x)),
          w(args.w),
          y(static_cast<float*>(args.out)),
          epilogue(args.epilogue),
          packed(static_cast<const float*>(args.packed)),
          workspace(static_cast<float*>(args.workspace)),
          cut(problem),
          grid(problem),
          plan(cut, grid.tiles, kPositions) {}

    /// V of the channels [c0, c1) from a bundle's first on for the tiles [tile, tile + count), which become rows
    /// [row, ...) of V. `zeros` are as many as V has channels.
    void transform_input(int64_t group, int64_t c0, int64_t c1, int64_t tile, int64_t count, int64_t row, float* v,
                         const float* zeros) const {
      WinogradPlace at = grid.place(tile);
      const int64_t pixel_row = p.dilation_h * p.W * p.C, pixel_column = p.dilation_w * p.C;
      const int64_t full = c0 + (c1 - c0) / kLanes * kLanes;
      for (int64_t t = 0; t < count; ++t, grid.advance(at)) {
        const int64_t h = at.a - p.pad_h + at.i * kM * p.dilation_h, w = at.b - p.pad_w + at.j * kM * p.dilation_w;
        const Range rows = inside(h, p.dilation_h, p.H), columns = inside(w, p.dilation_w, p.W);
        const int64_t origin = ((at.n * p.H + h) * p.W + w) * p.C + group * cut.C;
        float* to = v + (row + t) * plan.row;
        if (full == c1 && rows.end - rows.begin == kTile && columns.end - columns.begin == kTile) {
          for (int64_t c = c0; c < c1; c += kLanes)
            input(x + origin + c, pixel_row, pixel_column, to + c, plan.position);
          continue;
        }
        const float* pixels[kPositions];
        for (int i = 0; i < kPositions; ++i) pixels[i] = zeros;
        for (int64_t r = rows.begin; r < rows.end; ++r)
          for (int64_t s = columns.begin; s < columns.end; ++s)
            pixels[r * kTile + s] = x + (origin + r * pixel_row + s * pixel_column);
        for (int64_t c = c0; c < full; c += kLanes) input_border(pixels, c, to + c, plan.position);
        if (full == c1) continue;
        alignas(64) float tail[kPositions * kLanes];
        for (int i = 0; i < kPositions; ++i) store(tail + i * kLanes, load(pixels[i] + full, c1 - full));
        input(tail, kTile * kLanes, kLanes, to + full, plan.position);
      }
    }

    /// M of the panels [first, last) from a bundle's first on, then their y, for the `count` tiles from `tile` on.
    void products_and_output(int64_t group, int64_t first, int64_t last, int64_t tile, int64_t count, const float* v,
                             float* m) const {
      // Short products are done for all positions in one go; long ones use a panel for all rows while it is in L1.
      const int64_t batch = cut.groups > 1 ? kPositions : 1;
      for (int64_t position = 0; position < kPositions; position += batch)
        for (int64_t panel = first; panel < last; ++panel) {
          const int64_t index = (group * cut.panels + panel) * kPositions + position;
          const Matrices<const float*> a{v + position * plan.position + panel / cut.panels * cut.C, plan.row,
                                         plan.position};
          const Matrices<const float*> b{packed + index * cut.panel_floats, cut.columns, cut.panel_floats};
          const Matrices<float*> out{m + position * plan.m_position + (panel - first) * cut.columns, plan.m_row,
                                     plan.m_position};
          const bool full = cut.K - panel % cut.panels * cut.columns > kLanes;
          const auto product = full                    ? multiply<kTileVectors, kPanel>
                               : cut.columns == kPanel ? multiply<1, kPanel>
                                                       : multiply<1, kLanes>;
          product(a, b, out, batch, count, cut.C, plan.ahead);
        }
      transform_output(group, first * cut.columns, last * cut.columns, tile, count, m);
    }

    void transform_output(int64_t group, int64_t k0, int64_t k1, int64_t tile, int64_t count, const float* m) const {
      if (k1 > plan.bundles * cut.K) k1 = plan.bundles * cut.K;
      WinogradPlace at = grid.place(tile);
      const int64_t pixel_row = p.dilation_h * p.Q * p.K, pixel_column = p.dilation_w * p.K;
      const bool simple = !epilogue.residual && epilogue.activation <= Activation::kRelu;
      for (int64_t t = 0; t < count; ++t, grid.advance(at)) {
        const int64_t i = at.a + at.i * kM * p.dilation_h, j = at.b + at.j * kM * p.dilation_w;
        const int64_t rows = inside(i, p.dilation_h, p.P, kM).end, columns = inside(j, p.dilation_w, p.Q, kM).end;
        const int64_t pixel = ((at.n * p.P + i) * p.Q + j) * p.K;
        for (int64_t k = k0; k < k1; k += kLanes) {
          const float* from = m + t * plan.m_row + (k - k0);
          const int64_t channel = group * cut.K + k, n = k1 - k < kLanes ? k1 - k : kLanes;
          if (simple && rows == kM && columns == kM && n == kLanes &&
              output_simple(from, plan.m_position, epilogue, channel, y + pixel + channel, pixel_row, pixel_column))
            continue;
          alignas(64) float tile_y[kM * kM * kLanes];
          if (!output(from, plan.m_position, tile_y))
            PlainSums<kM>{p, x, w}.run({at.n, i, j, rows, columns}, channel, n, tile_y);
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t s = 0; s < columns; ++s)
              finish_and_store(load(tile_y + (r * kM + s) * kLanes), epilogue, y,
                               pixel + r * pixel_row + s * pixel_column, channel, n);
        }
      }
    }

    float* zero_row(float* at) const {
      for (int64_t i = 0; i < plan.row; ++i) at[i] = 0;
      return at;
    }

    void run_blocks() const {
      const int64_t tasks = num_threads(), total = cut.groups / plan.bundles * grid.tiles;
      const int64_t panels = plan.bundles * cut.panels;
      parallel_for(tasks, [&](int64_t task) {
        const Range range = part_of(total, tasks, task);
        float* zeros = zero_row(workspace + task * plan.thread_floats());
        float *m = zeros + plan.row, *v = m + plan.m_floats();
        for (int64_t at = range.begin; at < range.end;) {
          const int64_t group = at / grid.tiles * plan.bundles, tile = at % grid.tiles;
          const int64_t left = grid.tiles - tile < range.end - at ? grid.tiles - tile : range.end - at;
          const int64_t count = tile_rows(left, plan.block).height;
          transform_input(group, 0, plan.bundles * cut.C, tile, count, 0, v, zeros);
          for (int64_t panel = 0; panel < panels; panel += plan.chunk)
            products_and_output(group, panel, panel + plan.chunk < panels ? panel + plan.chunk : panels, tile, count, v,
                                m);
          at += count;
        }
      });
    }

    void run_shared() const {
      const int64_t tasks = num_threads(), vectors = divide_up(cut.C, kLanes);
      float* v = workspace;
      for (int64_t tile = 0; tile < grid.tiles; tile += plan.block) {
        const int64_t count = grid.tiles - tile < plan.block ? grid.tiles - tile : plan.block;
        // Threads beyond the number of tiles take parts of the channels.
        const int64_t parts = divide_up(tasks, count) < vectors ? divide_up(tasks, count) : vectors;
        parallel_for(tasks, [&](int64_t task) {
          const Range range = part_of(count * parts, tasks, task);
          const float* zeros = zero_row(workspace + plan.v_floats() + task * plan.thread_floats());
          for (int64_t one = range.begin; one < range.end; ++one) {
            const Range channels = part_of(vectors, parts, one % parts);
            const int64_t c1 = channels.end * kLanes < cut.C ? channels.end * kLanes : cut.C;
            transform_input(0, channels.begin * kLanes, c1, tile + one / parts, 1, one / parts, v, zeros);
          }
        });
        // Threads beyond the number of panels take parts of the tiles.
        const int64_t most = divide_up(count, kTileRows / 2), ratio = tasks / cut.panels;
        const int64_t tile_parts = ratio < 1 ? 1 : ratio < most ? ratio : most, panel_parts = tasks / tile_parts;
        parallel_for(tile_parts * panel_parts, [&](int64_t task) {
          const Range tiles = part_of(count, tile_parts, task % tile_parts);
          const Range panels = part_of(cut.panels, panel_parts, task / tile_parts);
          float* m = workspace + plan.v_floats() + task * plan.thread_floats() + plan.row;
          for (int64_t panel = panels.begin; panel < panels.end; panel += plan.chunk)
            products_and_output(0, panel, panel + plan.chunk < panels.end ? panel + plan.chunk : panels.end,
                                tile + tiles.begin, tiles.end - tiles.begin, v + tiles.begin * plan.row, m);
        });
      }
    }
  };

  static void run(const ConvProblem& p, const ConvArgs& args) {
    const Call call(p, args);
    if (call.grid.tiles == 0) return;
    if (call.plan.shared) call.run_shared();
    else call.run_blocks();
  }
};

template <int kM>
constexpr ConvKernel kWinograd = {.algorithm = kM == 2 ? Algorithm::kWinogradF2 : Algorithm::kWinogradF4,
                                  .why_not = Winograd<kM>::why_not,
                                  .run = Winograd<kM>::run,
                                  .workspace = Winograd<kM>::workspace,
                                  .packed_bytes = Winograd<kM>::packed_bytes,
                                  .pack = Winograd<kM>::pack};

}  // namespace
}  // namespace fastconv
