// to[n][j][i] = from[n][i][j]: a block turns one square tile in shared memory, so that both sides are read and written
// along their rows. The floor is the bytes of both sides; a tile has a column more than it needs, against bank
// conflicts.

#include "core/cuda/transpose.h"

#include <stdexcept>

#include "core/cuda/launch.h"

namespace fastconv {
namespace {

constexpr int kTile = 32, kThreadRows = 8;

template <class T>
struct Tile {
  T at[kTile][kTile + 1];
};

template <class T>
__global__ void __launch_bounds__(kTile* kThreadRows)
    turn(const T* __restrict__ from, T* __restrict__ to, int64_t rows, int64_t columns, unsigned tiles_down,
         unsigned tiles_across) {
  auto& tile = shared_memory<Tile<T>>();
  const unsigned matrix = blockIdx.x / (tiles_down * tiles_across), rest = blockIdx.x % (tiles_down * tiles_across);
  const int64_t row = int64_t{rest / tiles_across} * kTile, column = int64_t{rest % tiles_across} * kTile;
  const int lane = static_cast<int>(threadIdx.x), first = static_cast<int>(threadIdx.y);
  from += matrix * rows * columns;
  to += matrix * rows * columns;
#pragma unroll
  for (int i = first; i < kTile; i += kThreadRows)
    if (row + i < rows && column + lane < columns) tile.at[i][lane] = from[(row + i) * columns + column + lane];
  __syncthreads();
#pragma unroll
  for (int j = first; j < kTile; j += kThreadRows)
    if (column + j < columns && row + lane < rows) to[(column + j) * rows + row + lane] = tile.at[lane][j];
}

template <class T>
void run(const ConvProblem& p, const void* from, void* to, int64_t rows, int64_t columns, void* stream) {
  const int64_t down = (rows + kTile - 1) / kTile, across = (columns + kTile - 1) / kTile;
  if (p.N * down * across > kMaxGridX)
    throw std::runtime_error("fastconv: " + encode(p) + " is too large to be transposed");
  launch("transpose", p, turn<T>,
         {.grid = {static_cast<unsigned>(p.N * down * across)},
          .block = {kTile, kThreadRows},
          .shared_bytes = sizeof(Tile<T>),
          .stream = stream},
         static_cast<const T*>(from), static_cast<T*>(to), rows, columns, static_cast<unsigned>(down),
         static_cast<unsigned>(across));
}

}  // namespace

void transpose_cuda(const ConvProblem& p, const void* from, void* to, int64_t rows, int64_t columns, void* stream) {
  switch (element_size(p.dtype)) {
    case 2: return run<uint16_t>(p, from, to, rows, columns, stream);
    case 4: return run<uint32_t>(p, from, to, rows, columns, stream);
    default: return run<uint64_t>(p, from, to, rows, columns, stream);
  }
}

}  // namespace fastconv
