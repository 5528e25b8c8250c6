// Twins of core/cuda/ptx_async.h.
#pragma once

#include "core/cuda_on_cpu/device.h"
#include "core/cuda_on_cpu/shared.h"

namespace fastconv::cuda_on_cpu {

/// Of 0xff from its beginning until its group is waited for.
void begin_copy(void* shared, const void* global, size_t bytes, bool valid, const Where& where);
void land(const PendingCopy& copy);
void commit_copies();
void wait_for_copies(size_t pending);

/// `count` matrices, from shared memory to registers or back.
void load_matrices(uint32_t* r, const void* row, unsigned count, bool transposed, const Where& where);
void store_matrices(const uint32_t* r, void* row, unsigned count, bool transposed, const Where& where);

}  // namespace fastconv::cuda_on_cpu

namespace fastconv::ptx {

template <int kBytes>
void cp_async(void* shared, const void* global, bool valid = true, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  cuda_on_cpu::begin_copy(shared, global, kBytes, valid, {"cp_async", file, line});
}

inline void cp_async_commit() { cuda_on_cpu::commit_copies(); }

template <int kPending>
void cp_async_wait() {
  cuda_on_cpu::wait_for_copies(kPending);
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, const char* file = __builtin_FILE(),
                        int line = __builtin_LINE()) {
  cuda_on_cpu::load_matrices(r, row, 4, false, {"ldmatrix_x4", file, line});
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  cuda_on_cpu::load_matrices(r, row, 4, true, {"ldmatrix_x4_trans", file, line});
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row, const char* file = __builtin_FILE(),
                        int line = __builtin_LINE()) {
  cuda_on_cpu::load_matrices(r, row, 2, false, {"ldmatrix_x2", file, line});
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  cuda_on_cpu::load_matrices(r, row, 2, true, {"ldmatrix_x2_trans", file, line});
}
inline void stmatrix_x4(void* row, const uint32_t (&r)[4], const char* file = __builtin_FILE(),
                        int line = __builtin_LINE()) {
  cuda_on_cpu::store_matrices(r, row, 4, false, {"stmatrix_x4", file, line});
}
inline void stmatrix_x4_trans(void* row, const uint32_t (&r)[4], const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  cuda_on_cpu::store_matrices(r, row, 4, true, {"stmatrix_x4_trans", file, line});
}

}  // namespace fastconv::ptx
