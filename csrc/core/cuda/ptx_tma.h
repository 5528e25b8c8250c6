// Bulk copies between global and shared memory (TMA, sm_90). One thread begins a copy; loads count their bytes on an
// mbarrier, stores are waited for in groups of the thread.
//
// Boxes lie in shared memory with the innermost axis fastest, swizzled as the map says, at multiples of 128 bytes (of
// 1024 where a swizzle of 128 bytes is to begin with its first row).
#pragma once

#include "core/cuda/tensor_map.h"

#if !defined(__CUDACC__)
#include "core/cuda_on_cpu/ptx_tma.h"
#else
#include "core/cuda/ptx_asm.h"

namespace fastconv::ptx {

#define FASTCONV_TMA_LOAD "cp.async.bulk.tensor."
#define FASTCONV_TMA_TILE "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
#define FASTCONV_TMA_IM2COL "d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
#define FASTCONV_TMA_AT2 "r"(at[0]), "r"(at[1])
#define FASTCONV_TMA_AT3 FASTCONV_TMA_AT2, "r"(at[2])
#define FASTCONV_TMA_AT4 FASTCONV_TMA_AT3, "r"(at[3])
#define FASTCONV_TMA_AT5 FASTCONV_TMA_AT4, "r"(at[4])

/// The map is read before the first copy asks for it.
__device__ __forceinline__ void prefetch_tensor_map(const TensorMap& map) {
  FASTCONV_ASM_SM90("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// Loads the box at `at`, innermost axis first; `barrier` gets all its bytes, those outside the tensor (zeros) too.
template <int kRank>
__device__ __forceinline__ void tma_load(void* shared, const TensorMap& map, const int (&at)[kRank],
                                         uint64_t* barrier) {
  static_assert(kRank >= 2 && kRank <= 5);
  const uint32_t to = shared_address(shared), counter = shared_address(barrier);
  if constexpr (kRank == 2)
    FASTCONV_ASM_SM90(FASTCONV_TMA_LOAD "2" FASTCONV_TMA_TILE " [%0], [%1, {%3, %4}], [%2];" ::"r"(to), "l"(&map),
                      "r"(counter), FASTCONV_TMA_AT2 : "memory");
  if constexpr (kRank == 3)
    FASTCONV_ASM_SM90(FASTCONV_TMA_LOAD "3" FASTCONV_TMA_TILE " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to), "l"(&map),
                      "r"(counter), FASTCONV_TMA_AT3 : "memory");
  if constexpr (kRank == 4)
    FASTCONV_ASM_SM90(FASTCONV_TMA_LOAD "4" FASTCONV_TMA_TILE " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
                      "l"(&map), "r"(counter), FASTCONV_TMA_AT4 : "memory");
  if constexpr (kRank == 5)
    FASTCONV_ASM_SM90(FASTCONV_TMA_LOAD "5" FASTCONV_TMA_TILE " [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
                      "l"(&map), "r"(counter), FASTCONV_TMA_AT5 : "memory");
}

/// The same into every block of the cluster whose bit of `ranks` is set, at the same place, counted on the barrier at
/// the same place.
template <int kRank>
__device__ __forceinline__ void tma_load_multicast(void* shared, const TensorMap& map, const int (&at)[kRank],
                                                   uint64_t* barrier, uint16_t ranks) {
  static_assert(kRank >= 2 && kRank <= 5);
  const uint32_t to = shared_address(shared), counter = shared_address(barrier);
  if constexpr (kRank == 2)
    FASTCONV_ASM_SM90A(FASTCONV_TMA_LOAD "2" FASTCONV_TMA_TILE
                                         ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(to),
                       "l"(&map), "r"(counter), "h"(ranks), FASTCONV_TMA_AT2 : "memory");
  if constexpr (kRank == 3)
    FASTCONV_ASM_SM90A(FASTCONV_TMA_LOAD "3" FASTCONV_TMA_TILE
                                         ".multicast::cluster [%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(to),
                       "l"(&map), "r"(counter), "h"(ranks), FASTCONV_TMA_AT3 : "memory");
  if constexpr (kRank == 4)
    FASTCONV_ASM_SM90A(FASTCONV_TMA_LOAD "4" FASTCONV_TMA_TILE
                                         ".multicast::cluster [%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(to),
                       "l"(&map), "r"(counter), "h"(ranks), FASTCONV_TMA_AT4 : "memory");
  if constexpr (kRank == 5)
    FASTCONV_ASM_SM90A(FASTCONV_TMA_LOAD "5" FASTCONV_TMA_TILE
                                         ".multicast::cluster [%0], [%1, {%4, %5, %6, %7, %8}], [%2], %3;" ::"r"(to),
                       "l"(&map), "r"(counter), "h"(ranks), FASTCONV_TMA_AT5 : "memory");
}

/// Loads pixels of an im2col map: their channels from at[0], the first pixel's place at[1] (W), at[2] (H) ... and image
/// at[kRank - 1]; `tap` (W, H, ...) is added to every place. Rows of the box are pixels.
template <int kRank>
__device__ __forceinline__ void tma_load_im2col(void* shared, const TensorMap& map, const int (&at)[kRank],
                                                const uint16_t (&tap)[kRank - 2], uint64_t* barrier) {
  static_assert(kRank == 4 || kRank == 5);
  const uint32_t to = shared_address(shared), counter = shared_address(barrier);
  if constexpr (kRank == 4)
    FASTCONV_ASM_SM90(FASTCONV_TMA_LOAD "4" FASTCONV_TMA_IM2COL
                                        " [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(to),
                      "l"(&map), "r"(counter), FASTCONV_TMA_AT4, "h"(tap[0]), "h"(tap[1]) : "memory");
  if constexpr (kRank == 5)
    FASTCONV_ASM_SM90(FASTCONV_TMA_LOAD "5" FASTCONV_TMA_IM2COL
                                        " [%0], [%1, {%3, %4, %5, %6, %7}], [%2], {%8, %9, %10};" ::"r"(to),
                      "l"(&map), "r"(counter), FASTCONV_TMA_AT5, "h"(tap[0]), "h"(tap[1]), "h"(tap[2]) : "memory");
}

/// As tma_load_multicast.
template <int kRank>
__device__ __forceinline__ void tma_load_im2col_multicast(void* shared, const TensorMap& map, const int (&at)[kRank],
                                                          const uint16_t (&tap)[kRank - 2], uint64_t* barrier,
                                                          uint16_t ranks) {
  static_assert(kRank == 4 || kRank == 5);
  const uint32_t to = shared_address(shared), counter = shared_address(barrier);
  if constexpr (kRank == 4)
    FASTCONV_ASM_SM90A(FASTCONV_TMA_LOAD
                       "4" FASTCONV_TMA_IM2COL
                       ".multicast::cluster [%0], [%1, {%4, %5, %6, %7}], [%2], {%8, %9}, %3;" ::"r"(to),
                       "l"(&map), "r"(counter), "h"(ranks), FASTCONV_TMA_AT4, "h"(tap[0]), "h"(tap[1]) : "memory");
  if constexpr (kRank == 5)
    FASTCONV_ASM_SM90A(
        FASTCONV_TMA_LOAD "5" FASTCONV_TMA_IM2COL
                          ".multicast::cluster [%0], [%1, {%4, %5, %6, %7, %8}], [%2], {%9, %10, %11}, %3;" ::"r"(to),
        "l"(&map), "r"(counter), "h"(ranks), FASTCONV_TMA_AT5, "h"(tap[0]), "h"(tap[1]), "h"(tap[2]) : "memory");
}

/// Stores a box; what lies outside the tensor is left out. Threads that wrote the box: fence_proxy_async, then a
/// barrier.
template <int kRank>
__device__ __forceinline__ void tma_store(const TensorMap& map, const void* shared, const int (&at)[kRank]) {
  static_assert(kRank >= 2 && kRank <= 5);
  const uint32_t from = shared_address(shared);
  if constexpr (kRank == 2)
    FASTCONV_ASM_SM90("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
                      "r"(from), FASTCONV_TMA_AT2 : "memory");
  if constexpr (kRank == 3)
    FASTCONV_ASM_SM90(
        "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map), "r"(from),
        FASTCONV_TMA_AT3 : "memory");
  if constexpr (kRank == 4)
    FASTCONV_ASM_SM90(
        "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
        "r"(from), FASTCONV_TMA_AT4 : "memory");
  if constexpr (kRank == 5)
    FASTCONV_ASM_SM90(
        "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(&map),
        "r"(from), FASTCONV_TMA_AT5 : "memory");
}

#undef FASTCONV_TMA_LOAD
#undef FASTCONV_TMA_TILE
#undef FASTCONV_TMA_IM2COL
#undef FASTCONV_TMA_AT2
#undef FASTCONV_TMA_AT3
#undef FASTCONV_TMA_AT4
#undef FASTCONV_TMA_AT5

/// Loads `bytes` as they lie; addresses and count are multiples of 16.
__device__ __forceinline__ void bulk_load(void* shared, const void* global, unsigned bytes, uint64_t* barrier) {
  FASTCONV_ASM_SM90("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                        shared_address(shared)),
                    "l"(global), "r"(bytes), "r"(shared_address(barrier)) : "memory");
}

/// The thread's stores since the last commit are a group.
__device__ __forceinline__ void bulk_commit() { FASTCONV_ASM_SM90("cp.async.bulk.commit_group;" :: : "memory"); }

/// All but the latest kPending groups have read their shared memory: it may be written again, or the block end.
template <int kPending>
__device__ __forceinline__ void bulk_wait_read() {
  FASTCONV_ASM_SM90("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

/// All but the latest kPending groups are in global memory.
template <int kPending>
__device__ __forceinline__ void bulk_wait() {
  FASTCONV_ASM_SM90("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace fastconv::ptx
#endif
