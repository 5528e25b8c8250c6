// The transformed filter of F(m x m, 3x3), packed as the matrix products read it: [group][panel][position][C][columns].
//
// Narrow groups are merged: lanes / K_per_group of them share a panel whose weight is block-diagonal, so that a vector
// of outputs is always full. `group` below is then such a bundle.
#pragma once

#include "conv/cpu/winograd_transforms.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "core/kernel.h"

namespace fastconv {
namespace {

/// How channels are cut; depends on C, K and groups alone.
struct WinogradPanels {
  int64_t merged;        // groups of the problem in one bundle
  int64_t groups;        // bundles
  int64_t C, K;          // channels of a bundle
  int64_t panels;        // panels of a bundle
  int64_t columns;       // floats of a panel's row: one vector or kPanel
  int64_t panel_floats;  // of one position

  explicit WinogradPanels(const ConvProblem& p) {
    merged = 1;
    while (2 * merged * p.K_per_group() <= kLanes && p.groups % (2 * merged) == 0) merged *= 2;
    groups = p.groups / merged;
    C = p.C_per_group() * merged, K = p.K_per_group() * merged;
    columns = K <= kLanes ? kLanes : kPanel;
    panels = divide_up(K, columns);
    panel_floats = C * columns;
  }
};

template <int kM>
struct WinogradPacking {
  using T = Transform<kM>;

  static size_t bytes(const ConvProblem& p) {
    const WinogradPanels cut(p);
    return static_cast<size_t>(cut.groups * cut.panels * T::kPositions * cut.panel_floats) * sizeof(float);
  }

  static void pack(const ConvProblem& p, const Filter& w, void* packed) {
    const WinogradPanels cut(p);
    const int64_t vectors = cut.columns / kLanes;
    parallel_for(cut.groups * cut.panels * vectors, [&](int64_t task) {
      const int64_t vector = task % vectors, panel = task / vectors % cut.panels, group = task / vectors / cut.panels;
      float* to = static_cast<float*>(packed) +
                  (group * cut.panels + panel) * T::kPositions * cut.panel_floats + vector * kLanes;
      pack_vector(p, w, cut, group, panel * cut.columns + vector * kLanes, to);
    });
  }

 private:
  static constexpr int64_t kStage = 8;  // input channels staged together: whole cache lines of the filter

  /// The filters [k0, k0 + kLanes) of a bundle.
  static void pack_vector(const ConvProblem& p, const Filter& w, const WinogradPanels& cut, int64_t group, int64_t k0,
                          float* to) {
    const float* data = static_cast<const float*>(w.data);
    alignas(64) float stage[kStage * 9 * kLanes];
    for (int64_t c0 = 0; c0 < cut.C; c0 += kStage) {
      const int64_t count = cut.C - c0 < kStage ? cut.C - c0 : kStage;
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const int64_t k = k0 + lane;
        for (int64_t c = 0; c < count; ++c) {
          const int64_t member = k / p.K_per_group();
          const bool inside = k < cut.K && (c0 + c) / p.C_per_group() == member;
          const float* from =
              inside ? data + w.offset(group * cut.merged + member, k % p.K_per_group(), (c0 + c) % p.C_per_group(), 0, 0, 0)
                     : nullptr;
          for (int64_t r = 0; r < 3; ++r)
            for (int64_t s = 0; s < 3; ++s)
              stage[(c * 9 + r * 3 + s) * kLanes + lane] = inside ? from[r * w.stride_r + s * w.stride_s] : 0;
        }
      }
      for (int64_t c = 0; c < count; ++c)
        transform(stage + c * 9 * kLanes, to + (c0 + c) * cut.columns, cut.panel_floats);
    }
  }

  FASTCONV_INLINE static void transform(const float* g, float* to, int64_t position) {
    constexpr int kTile = T::kTile;
    Vec columns[3][kTile];
#pragma GCC unroll 3
    for (int s = 0; s < 3; ++s)
      T::filter(load(g + s * kLanes), load(g + (3 + s) * kLanes), load(g + (6 + s) * kLanes), columns[s]);
#pragma GCC unroll 6
    for (int r = 0; r < kTile; ++r) {
      Vec row[kTile];
      T::filter(columns[0][r], columns[1][r], columns[2][r], row);
#pragma GCC unroll 6
      for (int s = 0; s < kTile; ++s) store(to + (r * kTile + s) * position, row[s]);
    }
  }
};

}  // namespace
}  // namespace fastconv
