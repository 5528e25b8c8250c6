// The main loop of the implicit-GEMM kernels: a block's tile of gemm_m x gemm_n sums, kStages of shared memory filled
// by cp.async ahead of ldmatrix and mma.sync.
//
// An operand is moved in chunks of 16 bytes, 8 elements of 16 bits or 4 floats (which are multiplied as TF32). A stage
// holds four chunks along gemm_k: 64 bytes, two steps of an mma. A tile lies in shared memory as it lies in global
// memory, k fastest (rows along m or n) or m or n fastest (`kTransposed`: rows along k); ldmatrix turns the latter. The
// place of a chunk in its row is a XOR of the row's number, so that the 8 chunks of one phase of a load or a store,
// 128 bytes, come from different banks.
#pragma once

#include "core/cuda/number.h"
#include "core/cuda/ptx.h"
#include "core/cuda/vector.h"

namespace fastconv {
namespace {

constexpr int kStageChunks = 4;
constexpr int kStageSteps = kStageChunks / 2;

/// One operand's part of a stage: kExtent along gemm_m or gemm_n, four chunks along gemm_k.
template <class T, int kExtent, bool kTransposed>
struct OperandTile {
  static constexpr int kLanes = kPackLanes<T>;
  static constexpr int kDepth = kStageChunks * kLanes;

  T at[kExtent * kDepth];

  /// Row along m or n, chunk along k; transposed: row along k, chunk along m or n.
  __device__ __forceinline__ static int place(int row, int chunk) {
    if constexpr (!kTransposed) return row * kDepth + (chunk ^ (row >> 1 & 3)) * kLanes;
    // Loads take 8 rows of one chunk (ldmatrix) or 4 rows of two (floats); stores by k take rows kLanes apart.
    else if constexpr (kLanes == 8) return row * kExtent + (chunk ^ (row & 7) ^ 2 * (row >> 3 & 3)) * kLanes;
    else return row * kExtent + (chunk ^ 2 * ((row ^ row >> 2) & 3)) * kLanes;
  }

  /// Four 8 x 16-byte matrices, 16 of m or n from `first`, two chunks of k: as A's fragment of one mma, or as B's of
  /// two, {r[0], r[1]} and {r[2], r[3]}.
  template <bool kIsB>
  __device__ __forceinline__ void fragment(uint32_t (&r)[4], int first, int step) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int upper = kIsB ? lane / 16 : lane / 8 % 2;    // which 8 of m or n the lane's address is of
    const int upper_k = kIsB ? lane / 8 % 2 : lane / 16;  // which chunk of k
    if constexpr (!kTransposed) {
      // `first` is a multiple of 16 and leaves the XOR alone.
      ptx::ldmatrix_x4(r, at + first * kDepth + place(lane % 8 + 8 * upper, 2 * step + upper_k));
    } else if constexpr (kLanes == 8) {
      ptx::ldmatrix_x4_trans(r, at + place(8 * (2 * step + upper_k) + lane % 8, first / 8 + upper));
    } else {
      // No instruction transposes 32 bits: each register by itself.
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int k = 4 * (2 * step + (kIsB ? i % 2 : i / 2)) + lane % 4;
        const int across = first + 8 * (kIsB ? i / 2 : i % 2) + lane / 4;
        r[i] = bits_of(at[place(k, across / kLanes) + across % kLanes]);
      }
    }
    if constexpr (kLanes == 4) {
#pragma unroll
      for (uint32_t& x : r) x = ptx::to_tf32(float_of(x));
    }
  }
};

template <class T>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, float>) ptx::mma_m16n8k8_tf32(d, a, b);
  else ptx::mma_m16n8k16<T>(d, a, b);
}

/// A block's tile and how its warps share it.
template <class Element, int kBlockM, int kBlockN, int kWarpsM, int kWarpsN, int kStageCount, bool kTransposedA,
          bool kTransposedB>
struct IgemmTile {
  using T = Element;
  using A = OperandTile<T, kBlockM, kTransposedA>;
  using B = OperandTile<T, kBlockN, kTransposedB>;
  static constexpr int kM = kBlockM, kN = kBlockN, kStages = kStageCount;
  static constexpr int kWarps = kWarpsM * kWarpsN, kThreads = kWarps * kWarpSize;
  static constexpr int kWarpM = kM / kWarpsM, kWarpN = kN / kWarpsN;
  static constexpr int kLanes = kPackLanes<T>, kDepth = A::kDepth;
  static constexpr int kBlocksPerSm = 2;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0 && kStages >= 2);

  struct Stage {
    alignas(128) A a;
    alignas(128) B b;
  };
  /// A warp's sums on their way to stores of 16 bytes; the pitch spreads the rows over the banks.
  struct Slab {
    float at[kWarpM][kWarpN + 8];
  };
  union Shared {
    Stage stages[kStages];
    Slab slabs[kWarps];
  };

  /// sum[i][j]: the warp's rows 16 i, columns 8 j, as mma's d.
  using Sums = float[kWarpM / 16][kWarpN / 8][4];

  __device__ __forceinline__ static int warp_m() {
    return static_cast<int>(threadIdx.x) / kWarpSize / kWarpsN * kWarpM;
  }
  __device__ __forceinline__ static int warp_n() {
    return static_cast<int>(threadIdx.x) / kWarpSize % kWarpsN * kWarpN;
  }
};

/// sum += one stage of A times B.
template <class Tile>
__device__ __forceinline__ void multiply_stage(const typename Tile::Stage& stage, typename Tile::Sums& sum) {
  constexpr int kRows = Tile::kWarpM / 16, kColumns = Tile::kWarpN / 16;
#pragma unroll
  for (int step = 0; step < kStageSteps; ++step) {
    uint32_t a[kRows][4], b[kColumns][4];
#pragma unroll
    for (int j = 0; j < kColumns; ++j) stage.b.template fragment<true>(b[j], Tile::warp_n() + 16 * j, step);
#pragma unroll
    for (int i = 0; i < kRows; ++i) stage.a.template fragment<false>(a[i], Tile::warp_m() + 16 * i, step);
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        multiply<typename Tile::T>(sum[i][2 * j], a[i], {b[j][0], b[j][1]});
        multiply<typename Tile::T>(sum[i][2 * j + 1], a[i], {b[j][2], b[j][3]});
      }
  }
}

/// The sums of `count` stages. `load(stage)` begins the copies of this thread's chunks of the next one. Afterwards
/// shared memory is free for all threads.
template <class Tile, class Load>
__device__ __forceinline__ void igemm_sums(int count, Load&& load, typename Tile::Sums& sum) {
  auto& stages = shared_memory<typename Tile::Shared>().stages;
#pragma unroll
  for (auto& row : sum)
#pragma unroll
    for (auto& d : row) d[0] = d[1] = d[2] = d[3] = 0;
#pragma unroll
  for (int ahead = 0; ahead < Tile::kStages - 1; ++ahead) {
    if (ahead < count) load(stages[ahead]);
    ptx::cp_async_commit();
  }
  int read = 0, write = Tile::kStages - 1;
#pragma unroll 1
  for (int k = 0; k < count; ++k) {
    ptx::cp_async_wait<Tile::kStages - 2>();
    __syncthreads();  // stage `read` is there for all; all are done with the one before it, which is `write`
    if (k + Tile::kStages - 1 < count) load(stages[write]);
    ptx::cp_async_commit();  // also if empty: the wait counts groups
    multiply_stage<Tile>(stages[read], sum);
    write = read;
    read = read + 1 == Tile::kStages ? 0 : read + 1;
  }
  ptx::cp_async_wait<0>();
  __syncthreads();
}

}  // namespace
}  // namespace fastconv
