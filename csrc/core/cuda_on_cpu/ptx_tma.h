// Twins of core/cuda/ptx_tma.h. A load's place is 0xff from its beginning until it lands, at a random moment; a store
// reads shared memory at one random moment and writes global memory at another.
#pragma once

#include "core/cuda/tensor_map.h"
#include "core/cuda_on_cpu/ptx_barrier.h"

namespace fastconv::cuda_on_cpu {

/// `tap` is null for tiled maps; `ranks` 0 means the own block.
void begin_load(void* shared, const TensorMap& map, const int* at, int rank, const uint16_t* tap, uint64_t* barrier,
                unsigned ranks, const Where& where);
void begin_bulk_load(void* shared, const void* global, unsigned bytes, uint64_t* barrier, const Where& where);
void begin_store(const TensorMap& map, const void* shared, const int* at, int rank, const Where& where);
void commit_bulk_stores();
/// `read`: until their shared memory was read, else until they are done.
void wait_for_bulk_stores(size_t pending, bool read, const Where& where);

}  // namespace fastconv::cuda_on_cpu

namespace fastconv::ptx {

inline void prefetch_tensor_map(const TensorMap&) {}

template <int kRank>
void tma_load(void* shared, const TensorMap& map, const int (&at)[kRank], uint64_t* barrier,
              const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::begin_load(shared, map, at, kRank, nullptr, barrier, 0, {"tma_load", file, line});
}
template <int kRank>
void tma_load_multicast(void* shared, const TensorMap& map, const int (&at)[kRank], uint64_t* barrier, uint16_t ranks,
                        const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::begin_load(shared, map, at, kRank, nullptr, barrier, ranks, {"tma_load_multicast", file, line});
}
template <int kRank>
void tma_load_im2col(void* shared, const TensorMap& map, const int (&at)[kRank], const uint16_t (&tap)[kRank - 2],
                     uint64_t* barrier, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::begin_load(shared, map, at, kRank, tap, barrier, 0, {"tma_load_im2col", file, line});
}
template <int kRank>
void tma_load_im2col_multicast(void* shared, const TensorMap& map, const int (&at)[kRank],
                               const uint16_t (&tap)[kRank - 2], uint64_t* barrier, uint16_t ranks,
                               const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::begin_load(shared, map, at, kRank, tap, barrier, ranks, {"tma_load_im2col_multicast", file, line});
}
template <int kRank>
void tma_store(const TensorMap& map, const void* shared, const int (&at)[kRank], const char* file = __builtin_FILE(),
               int line = __builtin_LINE()) {
  cuda_on_cpu::begin_store(map, shared, at, kRank, {"tma_store", file, line});
}
inline void bulk_load(void* shared, const void* global, unsigned bytes, uint64_t* barrier,
                      const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::begin_bulk_load(shared, global, bytes, barrier, {"bulk_load", file, line});
}
inline void bulk_commit() { cuda_on_cpu::commit_bulk_stores(); }
template <int kPending>
void bulk_wait_read(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wait_for_bulk_stores(kPending, true, {"bulk_wait_read", file, line});
}
template <int kPending>
void bulk_wait(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wait_for_bulk_stores(kPending, false, {"bulk_wait", file, line});
}

}  // namespace fastconv::ptx
