// to[n][j][i] = from[n][i][j]: a block turns one tile in shared memory, so that both sides are read and written along
// their rows. A tile is 32 x 32 squares; a lane moves a row of a square at a time: an element, or two 16-bit ones where
// both extents are even, so that a warp's access has 128 bytes.
//
// The floor is the bytes of both sides; a tile has a column more than it needs, against bank conflicts.

#include "core/cuda/transpose.h"

#include <stdexcept>

#include "core/cuda/launch.h"

namespace fastconv {
namespace {

constexpr int kTile = 32, kThreadRows = 8;

/// kSide x kSide elements, as kSide rows.
template <class Row, int kSide>
struct Square {
  Row rows[kSide];
};

template <class Row>
__device__ __forceinline__ Square<Row, 1> turned(const Square<Row, 1>& square) {
  return square;
}
__device__ __forceinline__ Square<uint32_t, 2> turned(const Square<uint32_t, 2>& square) {
  const uint32_t upper = square.rows[0], lower = square.rows[1];
  return {(upper & 0xffffu) | lower << 16, upper >> 16 | (lower & 0xffff0000u)};
}

template <class Row, int kSide>
struct Tile {
  Square<Row, kSide> at[kTile][kTile + 1];
};

/// Extents are in squares.
template <class Row, int kSide>
__global__ void __launch_bounds__(kTile* kThreadRows)
    turn(const Row* __restrict__ from, Row* __restrict__ to, int64_t rows, int64_t columns, unsigned tiles_down,
         unsigned tiles_across) {
  auto& tile = shared_memory<Tile<Row, kSide>>();
  const unsigned matrix = blockIdx.x / (tiles_down * tiles_across), rest = blockIdx.x % (tiles_down * tiles_across);
  const int64_t row = int64_t{rest / tiles_across} * kTile, column = int64_t{rest % tiles_across} * kTile;
  const int lane = static_cast<int>(threadIdx.x), first = static_cast<int>(threadIdx.y);
  from += matrix * rows * columns * kSide;
  to += matrix * rows * columns * kSide;
  // All loads before the first store: a thread's are on their way together.
  Square<Row, kSide> squares[kTile / kThreadRows] = {};
#pragma unroll
  for (int i = 0; i < kTile / kThreadRows; ++i) {
    const int64_t at = row + first + i * kThreadRows;
    if (at < rows && column + lane < columns)
#pragma unroll
      for (int r = 0; r < kSide; ++r) squares[i].rows[r] = from[(at * kSide + r) * columns + column + lane];
  }
#pragma unroll
  for (int i = 0; i < kTile / kThreadRows; ++i) tile.at[first + i * kThreadRows][lane] = turned(squares[i]);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kTile / kThreadRows; ++i) {
    const int j = first + i * kThreadRows;
    if (column + j < columns && row + lane < rows)
#pragma unroll
      for (int r = 0; r < kSide; ++r) to[((column + j) * kSide + r) * rows + row + lane] = tile.at[lane][j].rows[r];
  }
}

/// What an error says of a transposition.
struct Matrices {
  int64_t count, rows, columns;
};
std::string encode(const Matrices& m) {
  return std::to_string(m.count) + " matrices of " + std::to_string(m.rows) + " x " + std::to_string(m.columns);
}

template <class Row, int kSide>
void run(const void* from, void* to, int64_t count, int64_t rows, int64_t columns, void* stream) {
  const int64_t down = (rows + kTile - 1) / kTile, across = (columns + kTile - 1) / kTile;
  const Matrices matrices{count, rows * kSide, columns * kSide};
  if (count * down * across > kMaxGridX)
    throw std::runtime_error("fastconv: " + encode(matrices) + " are too many to be transposed at once");
  launch("transpose", matrices, turn<Row, kSide>,
         {.grid = {static_cast<unsigned>(count * down * across)},
          .block = {kTile, kThreadRows},
          .shared_bytes = sizeof(Tile<Row, kSide>),
          .stream = stream},
         static_cast<const Row*>(from), static_cast<Row*>(to), rows, columns, static_cast<unsigned>(down),
         static_cast<unsigned>(across));
}

bool in_pairs(const void* from, const void* to, int64_t rows, int64_t columns) {
  const auto aligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % sizeof(uint32_t) == 0; };
  return rows % 2 == 0 && columns % 2 == 0 && aligned(from) && aligned(to);
}

}  // namespace

void transpose_cuda(const void* from, void* to, int64_t count, int64_t rows, int64_t columns, int64_t element,
                    void* stream) {
  switch (element) {
    case 1: return run<uint8_t, 1>(from, to, count, rows, columns, stream);
    case 2:
      if (in_pairs(from, to, rows, columns)) return run<uint32_t, 2>(from, to, count, rows / 2, columns / 2, stream);
      return run<uint16_t, 1>(from, to, count, rows, columns, stream);
    case 4: return run<uint32_t, 1>(from, to, count, rows, columns, stream);
    default: return run<uint64_t, 1>(from, to, count, rows, columns, stream);
  }
}

}  // namespace fastconv
