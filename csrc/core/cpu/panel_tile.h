// One register tile from A where it lies to finished output: the inner body of the direct and pointwise kernels.
#pragma once

#include "core/cpu/epilogue.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

/// Where the products of one output lie in A: `outer` x `inner` runs of `length` neighbouring floats.
///
/// For a dense filter the S * C values under one filter row are one run; with dilation or groups each tap is its own.
struct Runs {
  int64_t outer, outer_stride;
  int64_t inner, inner_stride;
  int64_t length;
  int64_t depth() const { return outer * inner * length; }
};

/// The output a tile writes: `pixel` is the first pixel's offset, its neighbours follow at `pixel_stride`.
struct TileOut {
  float* data;
  int64_t pixel, pixel_stride;
  int64_t channel, channels;  // the first of the tile and how many exist from there
  const Epilogue* epilogue;
};

template <int MR, int NV>
void panel_tile(const float* a, int64_t a_stride, const Runs& runs, const float* b, const TileOut& out) {
  Vec acc[MR][NV];
  clear(acc);
  for (int64_t i = 0; i < runs.outer; ++i)
    for (int64_t j = 0; j < runs.inner; ++j) {
      accumulate<MR, NV>(acc, a + i * runs.outer_stride + j * runs.inner_stride, a_stride, b, runs.length);
      b += runs.length * NV * kLanes;
    }
  if (out.channels >= NV * kLanes && out.epilogue->empty()) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j)
        store(out.data + out.pixel + i * out.pixel_stride + out.channel + j * kLanes, acc[i][j]);
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      const int64_t left = out.channels - j * kLanes;
      finish_and_store(acc[i][j], *out.epilogue, out.data, out.pixel + i * out.pixel_stride, out.channel + j * kLanes,
                       left < kLanes ? left : kLanes);
    }
}

using PanelTile = void (*)(const float*, int64_t, const Runs&, const float*, const TileOut&);

/// The tile of `rows` x `vectors`, 1 <= rows <= kTileRows, 1 <= vectors <= kTileVectors.
template <int NV = kTileVectors>
PanelTile panel_tile_for(int64_t rows, int64_t vectors) {
  if constexpr (NV > 1) {
    if (vectors < NV) return panel_tile_for<NV - 1>(rows, vectors);
  }
  PanelTile tile = nullptr;
  with_rows(rows, [&](auto count) { tile = panel_tile<decltype(count)::value, NV>; });
  return tile;
}

/// Filters packed for the tile: [group][panel][tap][c][column], columns padded with zeros to whole vectors. A panel has
/// kPanel columns, the last of a group only as many vectors as it needs.
struct PanelPacking {
  int64_t groups, C, K, taps;  // C and K of one group

  int64_t panels() const { return divide_up(K, kPanel); }
  int64_t columns() const { return round_up(K, kLanes); }
  int64_t group_floats() const { return taps * C * columns(); }
  size_t bytes() const { return static_cast<size_t>(groups * group_floats()) * sizeof(float); }
  int64_t vectors(int64_t panel) const {
    const int64_t left = columns() - panel * kPanel;
    return (left < kPanel ? left : kPanel) / kLanes;
  }
  int64_t offset(int64_t group, int64_t panel) const { return group * group_floats() + panel * kPanel * taps * C; }
};

inline void pack_panels(const PanelPacking& packing, int64_t R, int64_t S, const Filter& w, float* packed) {
  const float* from = static_cast<const float*>(w.data);
  parallel_for(packing.groups * packing.panels(), [&](int64_t task) {
    const int64_t g = task / packing.panels(), panel = task % packing.panels();
    const int64_t width = packing.vectors(panel) * kLanes;
    const int64_t k0 = panel * kPanel;
    const int64_t exist = packing.K - k0 < width ? packing.K - k0 : width;
    float* to = packed + packing.offset(g, panel);
    for (int64_t r = 0; r < R; ++r)
      for (int64_t s = 0; s < S; ++s)
        for (int64_t c = 0; c < packing.C; ++c, to += width) {
          const float* column = from + w.offset(g, k0, c, 0, r, s);
          for (int64_t k = 0; k < exist; ++k) to[k] = column[k * w.stride_k];
          for (int64_t k = exist; k < width; ++k) to[k] = 0;
        }
  });
}

}  // namespace
}  // namespace fastconv
