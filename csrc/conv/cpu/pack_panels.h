// Filters laid out for the register tile.
#pragma once

#include "conv/conv.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

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

/// Writes the transposed of `rows` x `count` floats, rows `from_stride` apart: element (k, j) to to[row_of(j) + k].
/// `width` columns are written, those past `rows` as zeros; width is a multiple of kLanes.
template <class RowOf>
void transpose_into(const float* from, int64_t from_stride, int64_t rows, int64_t count, int64_t width, float* to,
                    RowOf&& row_of) {
  for (int64_t k = 0; k < width; k += kLanes)
    for (int64_t j = 0; j < count; j += kLanes) {
      const int64_t n = count - j < kLanes ? count - j : kLanes;
      Vec block[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) block[i] = k + i < rows ? load(from + (k + i) * from_stride + j, n) : zero();
      transpose(block);
      for (int64_t i = 0; i < n; ++i) store(to + row_of(j + i) + k, block[i]);
    }
}

/// Packs filters of any strides; those that torch keeps (kcrs, krsc, and both seen by a dgrad) by whole vectors.
inline void pack_panels(const PanelPacking& packing, int64_t R, int64_t S, const Filter& w, float* packed) {
  const int64_t taps = R * S, C = packing.C;
  const bool kcrs =
      w.stride_c == taps && (S == 1 || w.stride_s == 1) && (R == 1 || w.stride_r == S) && w.stride_k > taps;
  parallel_for(packing.groups * packing.panels(), [&](int64_t task) {
    const int64_t g = task / packing.panels(), panel = task % packing.panels();
    const int64_t width = packing.vectors(panel) * kLanes, k0 = panel * kPanel;
    const int64_t exist = packing.K - k0 < width ? packing.K - k0 : width;
    const float* from = static_cast<const float*>(w.data) + w.offset(g, k0, 0, 0, 0, 0);
    float* to = packed + packing.offset(g, panel);
    if (kcrs) {  // one filter is C * taps neighbours
      transpose_into(from, w.stride_k, exist, C * taps, width, to,
                     [&](int64_t j) { return (j % taps * C + j / taps) * width; });
      return;
    }
    if (w.stride_c == 1) {  // krsc: one tap of a filter is C neighbours
      for (int64_t r = 0; r < R; ++r)
        for (int64_t s = 0; s < S; ++s, to += C * width)
          transpose_into(from + r * w.stride_r + s * w.stride_s, w.stride_k, exist, C, width, to,
                         [&](int64_t j) { return j * width; });
      return;
    }
    if (w.stride_k == 1) {  // krsc as a dgrad sees it: one tap and channel of all filters are neighbours
      for (int64_t r = 0; r < R; ++r)
        for (int64_t s = 0; s < S; ++s)
          for (int64_t c = 0; c < C; ++c, to += width) {
            const float* row = from + c * w.stride_c + r * w.stride_r + s * w.stride_s;
            for (int64_t k = 0; k < width; k += kLanes) {
              const int64_t n = most(least(exist - k, kLanes), 0);
              store(to + k, n == kLanes ? load(row + k) : load(row + k, n));
            }
          }
      return;
    }
    for (int64_t c = 0; c < C; ++c)
      for (int64_t r = 0; r < R; ++r)
        for (int64_t s = 0; s < S; ++s) {
          const float* column = from + c * w.stride_c + r * w.stride_r + s * w.stride_s;
          float* row = to + ((r * S + s) * C + c) * width;
          for (int64_t k = 0; k < exist; ++k) row[k] = column[k * w.stride_k];
          for (int64_t k = exist; k < width; ++k) row[k] = 0;
        }
  });
}

}  // namespace
}  // namespace fastconv
