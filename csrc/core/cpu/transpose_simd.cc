// Transposition of floats by square blocks in registers: every line of the source is read once, every line written
// whole.

#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"
#include "core/cpu/transpose.h"

namespace fastconv {
namespace {

constexpr int64_t kStrip = 4 * kLanes;  // neighbouring lines of a row, for the prefetcher's sake

/// One square block, of which `rows` rows and `lanes` columns exist.
void block(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows, int64_t lanes) {
  Vec square[kLanes];
  if (rows == kLanes && lanes == kLanes) {
#pragma GCC unroll 16
    for (int k = 0; k < kLanes; ++k) square[k] = load(from + k * from_stride);
    transpose(square);
#pragma GCC unroll 16
    for (int k = 0; k < kLanes; ++k) store(to + k * to_stride, square[k]);
    return;
  }
  for (int64_t k = 0; k < kLanes; ++k) square[k] = k < rows ? load(from + k * from_stride, lanes) : zero();
  transpose(square);
  for (int64_t k = 0; k < lanes; ++k) store(to + k * to_stride, square[k], rows);
}

}  // namespace

void FASTCONV_NAME(transpose_floats)(const float* from, float* to, int64_t batch, int64_t rows, int64_t columns) {
  const int64_t strips = divide_up(columns, kStrip), total = batch * strips;
  const int64_t tasks = total < num_threads() ? total : num_threads();
  parallel_for(tasks, [&](int64_t task) {
    const Range range = part_of(total, tasks, task);
    for (int64_t one = range.begin; one < range.end; ++one) {
      const int64_t matrix = one / strips * rows * columns, first = one % strips * kStrip;
      const int64_t end = first + kStrip < columns ? first + kStrip : columns;
      for (int64_t i = 0; i < rows; i += kLanes)
        for (int64_t j = first; j < end; j += kLanes)
          block(from + matrix + i * columns + j, columns, to + matrix + j * rows + i, rows,
                rows - i < kLanes ? rows - i : kLanes, end - j < kLanes ? end - j : kLanes);
    }
  });
}

}  // namespace fastconv
