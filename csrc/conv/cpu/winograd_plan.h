// How F(m x m, 3x3) is cut: the grid of tiles, and how many of them and how many channels are in memory at once.
#pragma once

#include <algorithm>

#include "conv/cpu/winograd_pack.h"
#include "core/cpu/machine.h"

namespace fastconv {
namespace {

/// Where a tile lies: image, sub-grid of the dilation, row and column in the sub-grid's grid of tiles.
struct WinogradPlace {
  int64_t n, a, b, i, j;
};

/// The tiles of a problem, in the order in which they are worked off. Of a dilation's sub-grids those that have outputs
/// count, which a large dilation leaves most without.
template <int kM>
struct WinogradGrid {
  const ConvProblem& p;
  int64_t subs_h, subs_w, rows, columns, tiles;

  explicit WinogradGrid(const ConvProblem& problem)
      : p(problem), subs_h(std::min(p.dilation_h, p.P)), subs_w(std::min(p.dilation_w, p.Q)) {
    rows = divide_up(divide_up(p.P, p.dilation_h), kM);
    columns = divide_up(divide_up(p.Q, p.dilation_w), kM);
    tiles = p.N * subs_h * subs_w * rows * columns;
  }
  WinogradPlace place(int64_t tile) const {
    const int64_t j = tile % columns, up = tile / columns, i = up % rows, sub = up / rows;
    const int64_t b = sub % subs_w, rest = sub / subs_w;
    return {rest / subs_h, rest % subs_h, b, i, j};
  }
  void advance(WinogradPlace& at) const {
    if (++at.j < columns) return;
    at.j = 0;
    if (++at.i < rows) return;
    at.i = 0;
    if (++at.b < subs_w) return;
    at.b = 0;
    if (++at.a < subs_h) return;
    at.a = 0;
    ++at.n;
  }
};

struct WinogradPlan {
  static constexpr int kBundledChannels = 64;  // of narrow groups, transformed together

  bool shared;                // all threads share V
  bool ahead;                 // panels are prefetched, being more than L2 holds
  int64_t block;              // tiles in V at once
  int64_t bundles;            // of channels in V at once
  int64_t chunk;              // panels in M at once
  int64_t positions;          // (m + 2)^2
  int64_t row, position;      // strides of V in floats
  int64_t m_row, m_position;  // of M

  // Memory of a thread: zeros in place of the pixels outside x, V, M. A shared V comes before all.
  int64_t v_floats() const { return positions * position; }
  int64_t m_floats() const { return positions * m_position; }
  int64_t thread_floats() const { return row + m_floats() + (shared ? 0 : v_floats()); }

  WinogradPlan(const WinogradPanels& cut, int64_t tiles, int64_t count_of_positions) : positions(count_of_positions) {
    const int64_t threads = num_threads(), l2 = static_cast<int64_t>(l2_bytes()) / 4;
    bundles = 1;
    if (cut.C % kLanes == 0 && cut.K == cut.panels * cut.columns)
      while (cut.groups % (2 * bundles) == 0 && 2 * bundles * cut.C <= kBundledChannels) bundles *= 2;
    const int64_t per_thread = divide_up(tiles * (cut.groups / bundles), threads);
    row = round_up(bundles * cut.C, kLanes);
    if (row % 256 == 0) row += 16;  // rows of a power of two would fall into few cache sets
    chunk = cut.groups > 1 ? bundles * cut.panels : 1;
    const int64_t fitting = l2 * 3 / 4 / (positions * (row + chunk * cut.columns));
    // Threads of their own pay where a thread's V holds enough rows for each panel it reads, or all of its tiles.
    shared = cut.groups == 1 && fitting < 2 * kTileRows && (fitting < per_thread || per_thread < kTileRows);
    block = fitting;
    if (shared) {
      // Every block reads the whole packed weight: as few of them as M of one panel allows in L2, and even ones; not so
      // large that V, which all threads read, would crowd the shared cache.
      const int64_t in_l2 = least(l2 * 5 / 8 / (positions * cut.columns), 8 * kTileRows);
      block = tiles > in_l2 ? divide_up(tiles, divide_up(tiles, in_l2)) : tiles;
      chunk = cut.panels > 1 && 2 * block <= in_l2 ? 2 : 1;
    } else {
      const int64_t most = (cut.groups > 1 ? 2 : 4) * kTileRows;
      if (block > most) block = most;
      if (block < per_thread && block > kTileRows) block = block / kTileRows * kTileRows;
    }
    if (block > tiles) block = tiles;
    if (block < 1) block = 1;
    ahead = cut.groups == 1 && cut.panels * positions * cut.panel_floats > l2;  // groups: panels too short to gain
    position = odd_lines(block * row);
    m_row = chunk * cut.columns;
    m_position = odd_lines(block * m_row);
  }

 private:
  /// The next odd number of cache lines: a tile's vectors in all positions then fall into different cache sets.
  static int64_t odd_lines(int64_t floats) { return floats / 32 * 32 + (floats % 32 <= 16 ? 16 : 48); }
};

}  // namespace
}  // namespace fastconv
