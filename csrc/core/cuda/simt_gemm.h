// A matrix product on the plain FMA units, exact in float32 and float64: the main loop that the SIMT rows share.
//
// A block of 128 threads makes a tile of kM x kN sums from steps of 16 along gemm_k. Each thread keeps kQuadsM x
// kQuadsN squares of 4 x 4: 8 x 8 sums take four 16-byte loads from shared memory for 64 FMAs. Both operands lie in
// shared memory as [k][row] in the accumulator's type, twice: while one step is multiplied, the next is on its way in
// registers.
//
// A warp is 8 x 4 threads, of which lanes i and i ^ 1 read the same of B and lanes i and i ^ 2 the same of A, for then
// an SM serves sixteen lanes at once instead of eight (conv/cuda/winograd_tile.h). So a 16-byte load takes 2 cycles of
// shared memory, and the four 8 of the 16 that 64 FMAs of each of an sm_90's four schedulers leave it; with 4 x 4 sums
// it is all 4 of 4. A source whose elements neighbour along gemm_k is transposed as it is stored; row r of depth k then
// lies at column r ^ (k / 4 % 4 * 8), which spreads the four quads of a row over the banks.
//
// Where the elements come from is the business of a source, a type with
//   Quad<T> quad(int pass, int row, int k)   kAlong::kDepth: elements (row, k .. k + 3) of the step, zeros outside
//                                            kAlong::kRows:  elements (row .. row + 3, k)
//   void next()                              goes to the next step
// `pass` counts the quads of one thread. For kRows a thread's row is the same in each pass and step.
#pragma once

#include "core/cuda/held.h"

namespace fastconv::simt {

constexpr int kThreads = 128;
constexpr int kStep = 16;

/// The axis along which a source's neighbouring elements lie in memory.
enum class Along { kDepth, kRows };

template <class T_, int kQuadsM_, int kQuadsN_>
struct Tile {
  using T = T_;
  using A = Accumulator<T>;
  static constexpr int kQuadsM = kQuadsM_, kQuadsN = kQuadsN_;
  static constexpr int kM = 64 * kQuadsM, kN = 32 * kQuadsN;
  /// For __launch_bounds__: 168 registers for 64 sums in float, up to 255 for 32 in double, 96 for 16 in float.
  static constexpr int kBlocksPerSm = sizeof(A) == 8 ? 2 : kQuadsM * kQuadsN == 4 ? 3 : 5;
  static constexpr int kOutPitch = kN + 4;  // rows that are 4 apart lie half of the banks apart

  struct Operands {
    A a[kStep * kM], b[kStep * kN];
  };
  union Shared {
    Operands operands[2];
    A out[64 * kOutPitch];
  };
  static_assert(blocks_fit(sizeof(Shared), kBlocksPerSm));
};

__device__ __forceinline__ int swizzle(int row, int k) { return row ^ (k / 4 % 4 * 8); }

template <class T>
using Quad = Held<T, 4>;

template <class T>
__device__ __forceinline__ Quad<T> quad_of(const Pack<T, 4>& from) {
  if constexpr (sizeof(T) == 2) {
    const auto word = [](T low, T high) { return static_cast<uint32_t>(low.bits | uint32_t{high.bits} << 16); };
    return {word(from.at[0], from.at[1]), word(from.at[2], from.at[3])};
  } else {
    return from;
  }
}

template <class T>
__device__ __forceinline__ Pack<T, 4> elements_of(const Quad<T>& quad) {
  if constexpr (sizeof(T) == 2) {
    const auto element = [&](int i) { return T{static_cast<uint16_t>(quad.at[i / 2] >> i % 2 * 16)}; };
    return {element(0), element(1), element(2), element(3)};
  } else {
    return quad;
  }
}

template <class T>
__device__ __forceinline__ Pack<Accumulator<T>, 4> widen_quad(const Quad<T>& quad) {
  Pack<Accumulator<T>, 4> wide;
  widen_held<T, 4>(quad, wide.at);
  return wide;
}

/// Four neighbouring elements, aligned to all four (or to 16 bytes, if that is less).
template <class T>
__device__ __forceinline__ Quad<T> load_quad(const T* from) {
  if constexpr (sizeof(T) <= 4) {
    return load_as<Quad<T>>(from);
  } else {
    const Pack<T, 2> low = load_pack<2>(from), high = load_pack<2>(from + 2);
    return {low.at[0], low.at[1], high.at[0], high.at[1]};
  }
}

/// `count` elements that lie `stride` apart, and zeros; of at most 4.
template <class T>
__device__ __forceinline__ Quad<T> gather_quad(const T* from, int stride, int count) {
  Pack<T, 4> quad = {};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < count) quad.at[i] = from[i * stride];
  return quad_of(quad);
}

template <class T>
__device__ __forceinline__ void store_quad(T* to, const Pack<T, 4>& quad) {
  if constexpr (sizeof(T) <= 4) {
    store_pack(to, quad);
  } else {
    store_pack(to, Pack<T, 2>{quad.at[0], quad.at[1]});
    store_pack(to + 2, Pack<T, 2>{quad.at[2], quad.at[3]});
  }
}

/// The first row of a thread's quads of an operand of kRows rows that lies along them.
template <int kRows>
__device__ __forceinline__ int thread_row() {
  return static_cast<int>(threadIdx.x) % (kRows / 4) * 4;
}

/// One operand's share of a thread: kRows / 32 quads a step, from the source to registers to shared memory.
template <class T, int kRows, Along kAlong, class Source>
class Operand {
 public:
  using A = Accumulator<T>;
  __device__ __forceinline__ explicit Operand(const Source& source) : source_(source) {}

  __device__ __forceinline__ void fetch() {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) quads_[pass] = source_.quad(pass, row(pass), depth(pass));
    source_.next();
  }

  __device__ __forceinline__ void store(A* tile) const {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const Pack<A, 4> wide = widen_quad<T>(quads_[pass]);
      const int r = row(pass), k = depth(pass);
      if constexpr (kAlong == Along::kRows) {
        store_pack(tile + k * kRows + swizzle(r, k), wide);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) tile[(k + i) * kRows + swizzle(r, k)] = wide.at[i];
      }
    }
  }

 private:
  static constexpr int kPasses = kRows / 32, kQuadsPerRow = kAlong == Along::kRows ? kRows / 4 : kStep / 4;

  static __device__ __forceinline__ int row(int pass) {
    const int t = static_cast<int>(threadIdx.x);
    return kAlong == Along::kRows ? thread_row<kRows>() : t / kQuadsPerRow + pass * 32;
  }
  static __device__ __forceinline__ int depth(int pass) {
    const int t = static_cast<int>(threadIdx.x);
    return kAlong == Along::kRows ? t / kQuadsPerRow + pass * (kThreads / kQuadsPerRow) : t % kQuadsPerRow * 4;
  }

  Source source_;
  Quad<T> quads_[kPasses];
};

/// Where a thread's squares begin: square (i, j) at row m + 32 * i, column n + 16 * j of the tile. Which lanes share a
/// row or a column: the file's head.
template <class Tile>
struct Squares {
  int m, n;
  __device__ __forceinline__ Squares() {
    const int t = static_cast<int>(threadIdx.x), lane = t % kWarpSize, warp = t / kWarpSize;
    m = warp / 2 * 32 * Tile::kQuadsM + (lane % 2 + lane / 8 * 2) * 4;
    n = warp % 2 * 16 * Tile::kQuadsN + lane / 2 % 4 * 4;
  }
};

template <class Tile>
using Sums = typename Tile::A[4 * Tile::kQuadsM][4 * Tile::kQuadsN];

/// sums += A * B of one step.
template <class Tile>
__device__ __forceinline__ void multiply_step(const typename Tile::Operands& step, Sums<Tile>& sums) {
  using A = typename Tile::A;
  const Squares<Tile> at;
#pragma unroll
  for (int k = 0; k < kStep; ++k) {
    Pack<A, 4> a[Tile::kQuadsM], b[Tile::kQuadsN];
#pragma unroll
    for (int i = 0; i < Tile::kQuadsM; ++i) a[i] = load_pack<4>(step.a + k * Tile::kM + swizzle(at.m + 32 * i, k));
#pragma unroll
    for (int j = 0; j < Tile::kQuadsN; ++j) b[j] = load_pack<4>(step.b + k * Tile::kN + swizzle(at.n + 16 * j, k));
#pragma unroll
    for (int m = 0; m < 4 * Tile::kQuadsM; ++m)
#pragma unroll
      for (int n = 0; n < 4 * Tile::kQuadsN; ++n) sums[m][n] += a[m / 4].at[m % 4] * b[n / 4].at[n % 4];
  }
}

/// sums = A * B over `steps` steps of 16. All threads call it; a barrier ends it.
template <class Tile, Along kAlongA, Along kAlongB, class SourceA, class SourceB>
__device__ __forceinline__ void multiply(const SourceA& source_a, const SourceB& source_b, int steps,
                                         typename Tile::Shared& shared, Sums<Tile>& sums) {
  using T = typename Tile::T;
  Operand<T, Tile::kM, kAlongA, SourceA> a(source_a);
  Operand<T, Tile::kN, kAlongB, SourceB> b(source_b);
#pragma unroll
  for (int m = 0; m < 4 * Tile::kQuadsM; ++m)
#pragma unroll
    for (int n = 0; n < 4 * Tile::kQuadsN; ++n) sums[m][n] = 0;
  if (steps == 0) return;
  a.fetch(), b.fetch();
  a.store(shared.operands[0].a), b.store(shared.operands[0].b);
  __syncthreads();
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const bool more = step + 1 < steps;
    if (more) a.fetch(), b.fetch();
    multiply_step<Tile>(shared.operands[step % 2], sums);
    if (more) {
      auto& next = shared.operands[(step + 1) % 2];
      a.store(next.a), b.store(next.b);
    }
    __syncthreads();
  }
}

/// Calls `body(row, column, sums)` for every quad of 4 neighbouring columns of the tile, rows of a warp's threads
/// together, so that what they store is contiguous. Goes through shared memory, 64 rows at a time.
template <class Tile, class Body>
__device__ __forceinline__ void for_each_quad(const Sums<Tile>& sums, typename Tile::Shared& shared, Body&& body) {
  using A = typename Tile::A;
  const Squares<Tile> at;
#pragma unroll
  for (int i = 0; i < Tile::kQuadsM; ++i) {
    if (i) __syncthreads();
    // The 32 rows of square i of either row of warps.
    const int half = at.m / (32 * Tile::kQuadsM), row = half * 32 + at.m % 32;
#pragma unroll
    for (int m = 0; m < 4; ++m)
#pragma unroll
      for (int j = 0; j < Tile::kQuadsN; ++j) {
        const auto& from = sums[4 * i + m];
        store_pack(shared.out + (row + m) * Tile::kOutPitch + at.n + 16 * j,
                   Pack<A, 4>{from[4 * j], from[4 * j + 1], from[4 * j + 2], from[4 * j + 3]});
      }
    __syncthreads();
#pragma unroll 1
    for (int quad = static_cast<int>(threadIdx.x); quad < 64 * Tile::kN / 4; quad += kThreads) {
      const int r = quad / (Tile::kN / 4), column = quad % (Tile::kN / 4) * 4;
      body(r / 32 * (32 * Tile::kQuadsM) + 32 * i + r % 32, column,
           load_pack<4>(shared.out + r * Tile::kOutPitch + column));
    }
  }
}

}  // namespace fastconv::simt
