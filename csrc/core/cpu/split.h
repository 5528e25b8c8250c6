// How a matrix product is shared between threads.
#pragma once

#include <cstdint>

namespace fastconv {
namespace {

/// `m` x `n` parts, one a thread.
struct Grid {
  int64_t m, n;
};

/// The grid for `threads` that leaves the busiest thread the fewest tiles and, among those, reads the least memory:
/// each part reads its share of A (m_bytes) and of B (n_bytes) whole.
inline Grid split(int64_t threads, int64_t m_tiles, int64_t n_tiles, int64_t m_bytes, int64_t n_bytes) {
  Grid best{1, 1};
  double best_work = 0, best_bytes = 0;
  for (int64_t m = 1; m <= threads; ++m) {
    if (m > m_tiles && m > 1) break;
    const int64_t n = threads / m < n_tiles ? threads / m : n_tiles;
    if (n < 1) continue;
    const double work = static_cast<double>((m_tiles + m - 1) / m) * static_cast<double>((n_tiles + n - 1) / n);
    const double bytes =
        static_cast<double>(m_bytes) / static_cast<double>(m) + static_cast<double>(n_bytes) / static_cast<double>(n);
    if (m == 1 || work < best_work * 0.99 || (work < best_work * 1.01 && bytes < best_bytes)) {
      best = {m, n};
      best_work = work;
      best_bytes = bytes;
    }
  }
  return best;
}

}  // namespace
}  // namespace fastconv
