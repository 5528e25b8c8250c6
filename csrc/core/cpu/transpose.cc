#include "core/cpu/transpose.h"

#include <algorithm>
#include <cstring>

#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

constexpr int64_t kBlock = 16;  // a block's 16 lines of 64 bytes stay in L1 while they are filled

template <class T>
void transpose_block(const T* from, T* to, int64_t rows, int64_t columns, int64_t i0, int64_t j0) {
  const int64_t i1 = std::min(i0 + kBlock, rows), j1 = std::min(j0 + kBlock, columns);
  if (i1 - i0 == kBlock && j1 - j0 == kBlock) {
    for (int64_t j = 0; j < kBlock; ++j)
      for (int64_t i = 0; i < kBlock; ++i) to[(j0 + j) * rows + i0 + i] = from[(i0 + i) * columns + j0 + j];
    return;
  }
  for (int64_t j = j0; j < j1; ++j)
    for (int64_t i = i0; i < i1; ++i) to[j * rows + i] = from[i * columns + j];
}

template <class T>
void run(const T* from, T* to, int64_t batch, int64_t rows, int64_t columns) {
  const int64_t strips = (columns + kBlock - 1) / kBlock;
  const int64_t total = batch * strips;
  const int64_t tasks = std::min<int64_t>(num_threads(), total);
  parallel_for(tasks, [&](int64_t task) {
    const Range range = part_of(total, tasks, task);
    for (int64_t strip = range.begin; strip < range.end; ++strip) {
      const int64_t b = strip / strips, j0 = strip % strips * kBlock;
      for (int64_t i0 = 0; i0 < rows; i0 += kBlock)
        transpose_block(from + b * rows * columns, to + b * rows * columns, rows, columns, i0, j0);
    }
  });
}

void run_floats(const float* from, float* to, int64_t batch, int64_t rows, int64_t columns) {
#if defined(__x86_64__)
  if (best_target().level >= target::avx512.level) return transpose_floats_avx512(from, to, batch, rows, columns);
  if (best_target().level >= target::avx2.level) return transpose_floats_avx2(from, to, batch, rows, columns);
#endif
  transpose_floats_cpu(from, to, batch, rows, columns);
}

}  // namespace

void transpose(const void* from, void* to, int64_t batch, int64_t rows, int64_t columns, int64_t element_size) {
  if (rows == 1 || columns == 1) {
    std::memcpy(to, from, static_cast<size_t>(batch * rows * columns * element_size));
    return;
  }
  switch (element_size) {
    case 1: return run(static_cast<const uint8_t*>(from), static_cast<uint8_t*>(to), batch, rows, columns);
    case 2: return run(static_cast<const uint16_t*>(from), static_cast<uint16_t*>(to), batch, rows, columns);
    case 4: return run_floats(static_cast<const float*>(from), static_cast<float*>(to), batch, rows, columns);
    default: return run(static_cast<const uint64_t*>(from), static_cast<uint64_t*>(to), batch, rows, columns);
  }
}

}  // namespace fastconv
