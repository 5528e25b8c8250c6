// F(m x m, 3x3) on NHWC: y[n,p,q,k] by tiles of m x m outputs, each from (m + 2)^2 inputs.
//
// Three steps: V[position][tile][c] from x, M[position][tile][k] = V * packed filter for each position, y from M with
// the epilogue. A dilated problem is dilation_h * dilation_w interleaved ones, whose tiles are simply more tiles.
// Two ways to cut the work, chosen by `plan`: each thread takes blocks of tiles and does all three steps on them; or
// all threads transform all tiles, and then each takes panels of output channels. M of a chunk of panels is
// transformed while it is in cache.
#pragma once

#include "conv/cpu/winograd_pack.h"
#include "core/cpu/epilogue.h"
#include "core/cpu/machine.h"

namespace fastconv {
namespace {

/// rows x columns of a product: out[i][j] = sum over c of a[i * a_stride + c] * b[c * b_stride + j].
template <int NV>
__attribute__((noinline)) void multiply(const float* a, int64_t a_stride, int64_t rows, int64_t length, const float* b,
                                        int64_t b_stride, float* out, int64_t out_stride) {
  const Tiling tiling = tile_rows(rows);
  for (int64_t i0 = 0; i0 < rows; i0 += tiling.height) {
    const int64_t count = rows - i0 < tiling.height ? rows - i0 : tiling.height;
    with_rows(count, [&](auto n) {
      constexpr int MR = decltype(n)::value;
      Vec acc[MR][NV];
      clear(acc);
      accumulate<MR, NV>(acc, a + i0 * a_stride, a_stride, b, length, b_stride);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) store(out + (i0 + i) * out_stride + j * kLanes, acc[i][j]);
    });
  }
}

template <int kM>
struct Winograd {
  using T = Transform<kM>;
  static constexpr int kTile = T::kTile, kPositions = T::kPositions;

  /// Where a tile lies: image, sub-grid of the dilation, row and column in the sub-grid's grid of tiles.
  struct Place {
    int64_t n, a, b, i, j;
  };

  struct Grid {
    const ConvProblem& p;
    int64_t rows, columns, tiles;

    explicit Grid(const ConvProblem& problem) : p(problem) {
      rows = divide_up(divide_up(p.P, p.dilation_h), kM);
      columns = divide_up(divide_up(p.Q, p.dilation_w), kM);
      tiles = p.N * p.dilation_h * p.dilation_w * rows * columns;
    }
    Place place(int64_t tile) const {
      const int64_t j = tile % columns, up = tile / columns, i = up % rows, sub = up / rows;
      const int64_t b = sub % p.dilation_w, rest = sub / p.dilation_w;
      return {rest / p.dilation_h, rest % p.dilation_h, b, i, j};
    }
    void advance(Place& at) const {
      if (++at.j < columns) return;
      at.j = 0;
      if (++at.i < rows) return;
      at.i = 0;
      if (++at.b < p.dilation_w) return;
      at.b = 0;
      if (++at.a < p.dilation_h) return;
      at.a = 0;
      ++at.n;
    }
  };

  struct Plan {
    bool shared;     // all threads share V
    int64_t block;   // tiles in V at once
    int64_t chunk;   // panels in M at once
    int64_t row, position;      // strides of V in floats
    int64_t m_row, m_position;  // of M
    int64_t v_floats() const { return kPositions * position; }
    int64_t m_floats() const { return kPositions * m_position; }
  };

  /// Strides that keep rows and positions from falling into the same cache sets.
  static int64_t spread(int64_t floats) { return floats % 256 == 0 ? floats + 16 : floats; }

  static Plan plan(const ConvProblem& p) {
    const WinogradPanels cut(p);
    const Grid grid(p);
    const int64_t threads = num_threads(), l2 = static_cast<int64_t>(l2_bytes()) / 4;
    const int64_t per_thread = divide_up(grid.tiles * cut.groups, threads);
    Plan plan;
    plan.row = spread(round_up(cut.C, kLanes));
    const int64_t per_tile = kPositions * (plan.row + cut.columns);
    const int64_t fitting = l2 * 3 / 4 / per_tile;
    // A thread's own block needs enough rows to pay for the panels it streams.
    plan.shared = cut.groups == 1 && (fitting < kTileRows || per_thread < kTileRows);
    plan.chunk = 1;
    if (plan.shared) {
      const int64_t most = (int64_t{16} << 20) / 4 / (kPositions * plan.row);
      plan.block = most < 1 ? 1 : most;
      plan.chunk = 2;
    } else {
      plan.block = fitting < kTileRows ? fitting : fitting / kTileRows * kTileRows;
      if (plan.block > 4 * kTileRows) plan.block = 4 * kTileRows;
      if (plan.block < 1) plan.block = 1;
    }
    if (plan.block > grid.tiles) plan.block = grid.tiles;
    if (plan.chunk > cut.panels) plan.chunk = cut.panels;
    plan.position = spread(plan.block * plan.row);
    plan.m_row = plan.chunk * cut.columns;
    plan.m_position = spread(plan.block * plan.m_row);
    return plan;
  }

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
    const Plan plan = Winograd::plan(p);
    const int64_t threads = num_threads();
    return static_cast<size_t>((plan.shared ? 1 : threads) * plan.v_floats() + threads * plan.m_floats()) * 4;
  }

  static size_t packed_bytes(const ConvProblem& p) { return WinogradPacking<kM>::bytes(p); }
  static void pack(const ConvProblem& p, const Filter& w, void* packed) { WinogradPacking<kM>::pack(p, w, packed); }

  /// One call's operands with everything derived from them.
  struct Call {
    const ConvProblem& p;
    const float* x;
    float* y;
    const Epilogue& epilogue;
    const float* packed;
    float* workspace;
    WinogradPanels cut;
    Grid grid;
    Plan plan;

    /// V of the channels [c0, c1) of a bundle for the tiles [tile, tile + count), which become rows [row, ...) of V.
    void transform_input(int64_t group, int64_t c0, int64_t c1, int64_t tile, int64_t count, int64_t row, float* v) const {
      Place at = grid.place(tile);
      const int64_t pixel_row = p.dilation_h * p.W * p.C, pixel_column = p.dilation_w * p.C;
      for (int64_t t = 0; t < count; ++t, grid.advance(at)) {
        const int64_t h = at.a - p.pad_h + at.i * kM * p.dilation_h, w = at.b - p.pad_w + at.j * kM * p.dilation_w;
        const bool inside = h >= 0 && w >= 0 && h + (kTile - 1) * p.dilation_h < p.H && w + (kTile - 1) * p.dilation_w < p.W;
        const int64_t origin = ((at.n * p.H + h) * p.W + w) * p.C + group * cut.C;
        float* to = v + (row + t) * plan.row;
        for (int64_t c = c0; c < c1; c += kLanes) {
          if (inside && c + kLanes <= cut.C) {
            T::input(x + origin + c, pixel_row, pixel_column, to + c, plan.position);
            continue;
          }
          alignas(64) float border[kTile * kTile * kLanes];
          const int64_t n = cut.C - c < kLanes ? cut.C - c : kLanes;
          for (int r = 0; r < kTile; ++r)
            for (int s = 0; s < kTile; ++s) {
              const int64_t ih = h + r * p.dilation_h, iw = w + s * p.dilation_w;
              Vec value = zero();
              if (ih >= 0 && ih < p.H && iw >= 0 && iw < p.W) {
                const float* from = x + origin + c + r * pixel_row + s * pixel_column;
                value = n == kLanes ? load(from) : load(from, n);
              }
              store(border + (r * kTile + s) * kLanes, value);
            }
          T::input(border, kTile * kLanes, kLanes, to + c, plan.position);
        }
      }
    }

    /// M of the panels [first, last) of a bundle from `count` rows of V, then y of the tiles [tile, tile + count).
    void products_and_output(int64_t group, int64_t first, int64_t last, int64_t tile, int64_t count, const float* v,
                             float* m) const {
      for (int64_t position = 0; position < kPositions; ++position)
        for (int64_t panel = first; panel < last; ++panel) {
          const float* b = packed + ((group * cut.panels + panel) * kPositions + position) * cut.panel_floats;
          const float* a = v + position * plan.position;
          float* out = m + position * plan.m_position + (panel - first) * cut.columns;
          if (cut.K - panel * cut.columns > kLanes)
            multiply<kTileVectors>(a, plan.row, count, cut.C, b, cut.columns, out, plan.m_row);
          else
            multiply<1>(a, plan.row, count, cut.C, b, cut.columns, out, plan.m_row);
        }
      transform_output(group, first * cut.columns, last * cut.columns, tile, count, m);
    }

    void transform_output(int64_t group, int64_t k0, int64_t k1, int64_t tile, int64_t count, const float* m) const {
      if (k1 > cut.K) k1 = cut.K;
      Place at = grid.place(tile);
      const int64_t pixel_row = p.dilation_h * p.Q * p.K, pixel_column = p.dilation_w * p.K;
      for (int64_t t = 0; t < count; ++t, grid.advance(at)) {
        const int64_t i = at.a + at.i * kM * p.dilation_h, j = at.b + at.j * kM * p.dilation_w;
        const bool inside = i + (kM - 1) * p.dilation_h < p.P && j + (kM - 1) * p.dilation_w < p.Q;
        const int64_t pixel = ((at.n * p.P + i) * p.Q + j) * p.K;
        for (int64_t k = k0; k < k1; k += kLanes) {
          const float* from = m + t * plan.m_row + (k - k0);
          const int64_t channel = group * cut.K + k, n = k1 - k < kLanes ? k1 - k : kLanes;
          if (inside && n == kLanes) {
            T::output(from, plan.m_position, [&](int r, int s, Vec value) {
              finish_and_store(value, epilogue, y, pixel + r * pixel_row + s * pixel_column, channel, kLanes);
            });
          } else {
            T::output(from, plan.m_position, [&](int r, int s, Vec value) {
              if (i + r * p.dilation_h < p.P && j + s * p.dilation_w < p.Q)
                finish_and_store(value, epilogue, y, pixel + r * pixel_row + s * pixel_column, channel, n);
            });
          }
        }
      }
    }

    void run_blocks() const {
      const int64_t tasks = num_threads(), total = cut.groups * grid.tiles;
      parallel_for(tasks, [&](int64_t task) {
        const Range range = part_of(total, tasks, task);
        float* v = workspace + task * (plan.v_floats() + plan.m_floats());
        float* m = v + plan.v_floats();
        for (int64_t at = range.begin; at < range.end;) {
          const int64_t group = at / grid.tiles, tile = at % grid.tiles;
          const int64_t left = (grid.tiles - tile < range.end - at ? grid.tiles - tile : range.end - at);
          const int64_t count = tile_rows(left, plan.block).height;
          transform_input(group, 0, cut.C, tile, count, 0, v);
          for (int64_t panel = 0; panel < cut.panels; panel += plan.chunk) {
            const int64_t last = panel + plan.chunk < cut.panels ? panel + plan.chunk : cut.panels;
            products_and_output(group, panel, last, tile, count, v, m);
          }
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
          for (int64_t one = range.begin; one < range.end; ++one) {
            const Range channels = part_of(vectors, parts, one % parts);
            transform_input(0, channels.begin * kLanes, channels.end * kLanes, tile + one / parts, 1, one / parts, v);
          }
        });
        parallel_for(tasks, [&](int64_t task) {
          const Range range = part_of(cut.panels, tasks, task);
          float* m = workspace + plan.v_floats() + task * plan.m_floats();
          for (int64_t panel = range.begin; panel < range.end; panel += plan.chunk) {
            const int64_t last = panel + plan.chunk < range.end ? panel + plan.chunk : range.end;
            products_and_output(0, panel, last, tile, count, v, m);
          }
        });
      }
    }
  };

  static void run(const ConvProblem& p, const ConvArgs& args, const void* x) {
    const Call call{p,
                    static_cast<const float*>(x),
                    static_cast<float*>(args.out),
                    args.epilogue,
                    static_cast<const float*>(args.packed),
                    static_cast<float*>(args.workspace),
                    WinogradPanels(p),
                    Grid(p),
                    plan(p)};
    if (call.grid.tiles == 0) return;
    if (call.plan.shared) call.run_shared();
    else call.run_blocks();
  }
};

}  // namespace
}  // namespace fastconv
