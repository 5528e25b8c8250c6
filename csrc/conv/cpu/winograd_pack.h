// The transformed filter of F(m x m, 3x3), packed as the matrix products read it: [group][panel][position][C][columns].
//
// Narrow groups are merged: lanes / K_per_group of them share a panel whose weight is block-diagonal, so that a vector
// of outputs is always full. `group` below is then such a bundle.
#pragma once

#include "conv/conv.h"
#include "conv/cpu/winograd_transforms.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"

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
    // Odd in cache lines, so that the positions of a filter do not fall into the same cache sets.
    panel_floats = round_up(C * columns, 32) + 16;
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
    const int64_t strips = divide_up(cut.C, kStage), total = cut.groups * cut.panels * strips;
    const int64_t tasks = num_threads() < total ? num_threads() : total;
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(total, tasks, task);
      for (int64_t one = range.begin; one < range.end; ++one) {
        const int64_t panel = one / strips, c0 = one % strips * kStage;
        pack_strip(p, w, cut, panel / cut.panels, panel % cut.panels * cut.columns, c0,
                   static_cast<float*>(packed) + panel * T::kPositions * cut.panel_floats + c0 * cut.columns);
      }
    });
  }

 private:
  static constexpr int64_t kStage = kLanes;  // input channels staged together, as [c][tap][k]

  /// The input channels [c0, c0 + kStage) of a panel that begins at the bundle's filter `first`.
  static void pack_strip(const ConvProblem& p, const Filter& w, const WinogradPanels& cut, int64_t group, int64_t first,
                         int64_t c0, float* to) {
    alignas(64) float stage[kStage * 9 * kLanes];
    const int64_t count = cut.C - c0 < kStage ? cut.C - c0 : kStage;
    for (int64_t k0 = first; k0 < first + cut.columns; k0 += kLanes, to += kLanes) {
      const bool whole = cut.merged == 1 && k0 + kLanes <= cut.K;
      if (!whole || !stage_vectors(w, w.offset(group, k0, c0, 0, 0, 0), count, stage))
        stage_elements(p, w, cut, group, k0, c0, count, stage);
      for (int64_t c = 0; c < count; ++c) transform(stage + c * 9 * kLanes, to + c * cut.columns, cut.panel_floats);
    }
  }

  /// The filters by vectors, where they lie as torch keeps them or as a dgrad sees those; false elsewhere.
  static bool stage_vectors(const Filter& w, int64_t offset, int64_t count, float* stage) {
    const float* from = static_cast<const float*>(w.data) + offset;
    const int64_t tap = w.stride_s < 0 ? -w.stride_s : w.stride_s;
    if (w.stride_r != 3 * w.stride_s) return false;
    const bool flipped = w.stride_s < 0;
    if (flipped) from += 8 * w.stride_s;  // the first tap in memory
    const auto place = [&](int64_t t) { return (flipped ? 8 - t : t) * kLanes; };
    if (tap == 1 && w.stride_c == 9) {  // a filter is count * 9 neighbours
      for (int64_t j = 0; j < count * 9; j += kLanes)
        turn(from + j, w.stride_k, count * 9 - j,
             [&](int64_t i) { return stage + (j + i) / 9 * 9 * kLanes + place((j + i) % 9); });
      return true;
    }
    if (tap == 1 && w.stride_k == 9) {  // a channel is kLanes * 9 neighbours
      for (int64_t c = 0; c < count; ++c)
        for (int64_t j = 0; j < 9; j += kLanes)
          turn(from + c * w.stride_c + j, 9, 9 - j, [&](int64_t i) { return stage + c * 9 * kLanes + place(j + i); });
      return true;
    }
    if (w.stride_c == 1) {  // a tap is count neighbours
      for (int64_t t = 0; t < 9; ++t)
        turn(from + t * tap, w.stride_k, count, [&](int64_t i) { return stage + i * 9 * kLanes + place(t); });
      return true;
    }
    if (w.stride_k == 1) {  // a tap of a channel is kLanes neighbours
      for (int64_t c = 0; c < count; ++c)
        for (int64_t t = 0; t < 9; ++t) store(stage + c * 9 * kLanes + place(t), load(from + c * w.stride_c + t * tap));
      return true;
    }
    return false;
  }

  /// Column i < n of kLanes rows of floats goes to to(i).
  template <class To>
  FASTCONV_INLINE static void turn(const float* from, int64_t row, int64_t n, To&& to) {
    Vec block[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) block[i] = n < kLanes ? load(from + i * row, n) : load(from + i * row);
    transpose(block);
    if (n > kLanes) n = kLanes;
    for (int64_t i = 0; i < n; ++i) store(to(i), block[i]);
  }

  static void stage_elements(const ConvProblem& p, const Filter& w, const WinogradPanels& cut, int64_t group,
                             int64_t k0, int64_t c0, int64_t count, float* stage) {
    const float* data = static_cast<const float*>(w.data);
    for (int64_t lane = 0; lane < kLanes; ++lane)
      for (int64_t c = 0; c < count; ++c) {
        const int64_t k = k0 + lane, member = k / p.K_per_group();
        const bool inside = k < cut.K && (c0 + c) / p.C_per_group() == member;
        const int64_t offset =
            w.offset(group * cut.merged + member, k % p.K_per_group(), (c0 + c) % p.C_per_group(), 0, 0, 0);
        for (int64_t r = 0; r < 3; ++r)
          for (int64_t s = 0; s < 3; ++s)
            stage[(c * 9 + r * 3 + s) * kLanes + lane] = inside ? data[offset + r * w.stride_r + s * w.stride_s] : 0;
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
