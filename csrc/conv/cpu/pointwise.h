// The 1x1 convolution as a matrix product, for fprop and for the dgrad of unit stride.
#pragma once

#include "conv/conv.h"
#include "conv/cpu/pack_panels.h"
#include "core/cpu/machine.h"
#include "core/cpu/panel_tile.h"
#include "core/cpu/split.h"

namespace fastconv {
namespace {

inline const char* pointwise_why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_pointwise() || !p.is_2d()) return "takes 1x1 filters without padding only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  if (p.P > 0 && (p.P - 1) * p.stride_h >= p.H) return "outputs beyond the image";
  if (p.Q > 0 && (p.Q - 1) * p.stride_w >= p.W) return "outputs beyond the image";
  return nullptr;
}

inline PanelPacking pointwise_packing(const ConvProblem& p) { return {p.groups, p.C_per_group(), p.K_per_group(), 1}; }
inline size_t pointwise_packed_bytes(const ConvProblem& p) { return pointwise_packing(p).bytes(); }
inline void pointwise_pack(const ConvProblem& p, const Filter& w, void* packed) {
  pack_panels(pointwise_packing(p), 1, 1, w, static_cast<float*>(packed));
}

/// The pixels as lines of `length`, whose rows of A are `a_stride` floats apart.
struct PixelLines {
  int64_t lines, length, a_stride;
};
inline PixelLines pixel_lines(const ConvProblem& p) {
  if (p.has_unit_stride() && p.P == p.H && p.Q == p.W) return {1, p.N * p.P * p.Q, p.C};
  return {p.N * p.P, p.Q, p.stride_w * p.C};
}

inline void run_pointwise(const ConvProblem& p, const ConvArgs& args) {
  const float* x = static_cast<const float*>(args.x);
  const float* packed = static_cast<const float*>(args.packed);
  const PanelPacking packing = pointwise_packing(p);
  const PixelLines lines = pixel_lines(p);
  if (lines.lines * lines.length == 0) return;
  // Rows a multiple of 4 KiB apart fall into one set of L1: no more of them than it has ways to spare.
  const Tiling tiling = tile_rows(lines.length, lines.a_stride % 1024 == 0 ? least(kTileRows, 8) : kTileRows);
  const int64_t tiles = lines.lines * tiling.tiles, panels = packing.panels() * p.groups;
  const Grid grid = split(num_threads(), tiles, panels, lines.lines * lines.length * p.C, p.K * packing.C);
  const int64_t row_bytes = p.C * static_cast<int64_t>(sizeof(float));
  const int64_t fitting = static_cast<int64_t>(l2_bytes()) / 2 / (row_bytes * tiling.height);
  const int64_t block = fitting < 1 ? 1 : fitting;
  const Runs runs{1, 0, 1, 0, packing.C};

  const bool streamed = outgrows_caches(p.x_elements() + p.y_elements(), packing.K, args.out);
  parallel_for(grid.m * grid.n, [&](int64_t part) {
    const Range my_tiles = part_of(tiles, grid.m, part / grid.n), my_panels = part_of(panels, grid.n, part % grid.n);
    const int64_t blocks = divide_up(my_tiles.end - my_tiles.begin, block);
    for (int64_t i = 0; i < blocks; ++i) {
      const Range share = part_of(my_tiles.end - my_tiles.begin, blocks, i);
      const int64_t begin = my_tiles.begin + share.begin, end = my_tiles.begin + share.end;
      for (int64_t panel = my_panels.begin; panel < my_panels.end; ++panel) {
        const int64_t g = panel / packing.panels(), within = panel % packing.panels();
        const float* b = packed + packing.offset(g, within);
        const int64_t vectors = packing.vectors(within);
        const int64_t k0 = within * kPanel;
        TileOut out{
            static_cast<float*>(args.out), 0, p.K, g * packing.K + k0, packing.K - k0, &args.epilogue, streamed};
        for (int64_t tile = begin; tile < end; ++tile) {
          const int64_t line = tile / tiling.tiles, first = tile % tiling.tiles * tiling.height;
          const int64_t left = lines.length - first;
          const int64_t rows = left < tiling.height ? left : tiling.height;
          if (rows <= 0) continue;
          const int64_t n = line / p.P, row = line % p.P;
          const int64_t line_start = lines.lines == 1 ? 0 : (n * p.H + row * p.stride_h) * p.W * p.C;
          out.pixel = (line * lines.length + first) * p.K;
          panel_tile_for(rows, vectors)(x + line_start + first * lines.a_stride + g * packing.C, lines.a_stride, runs,
                                        b, out);
        }
      }
    }
    if (streamed) flush_streams();
  });
}

inline size_t no_workspace(const ConvProblem&) { return 0; }

constexpr ConvKernel kPointwise = {.algorithm = Algorithm::kPointwise,
                                   .why_not = pointwise_why_not,
                                   .run = run_pointwise,
                                   .workspace = no_workspace,
                                   .packed_bytes = pointwise_packed_bytes,
                                   .pack = pointwise_pack};

}  // namespace
}  // namespace fastconv
