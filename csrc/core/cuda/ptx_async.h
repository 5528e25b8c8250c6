// Copies from global to shared memory that go on while the thread does (sm_80), and fragments of matrices from and to
// shared memory.
#pragma once

#include "core/cuda/device.h"

#if !defined(__CUDACC__)
#include "core/cuda_on_cpu/ptx_async.h"
#else
#include "core/cuda/ptx_asm.h"

namespace fastconv::ptx {

/// Begins to copy kBytes = 4, 8 or 16 (both addresses are multiples of it); 16 pass by L1. Zeros where not `valid`:
/// then `global` is not read, but must still be a pointer into global memory or null.
template <int kBytes>
__device__ __forceinline__ void cp_async(void* shared, const void* global, bool valid = true) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  const int bytes = valid ? kBytes : 0;
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global),
                 "n"(kBytes), "r"(bytes)
                 : "memory");
}

/// The thread's copies since the last commit are a group.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// All but the latest kPending groups of this thread have landed: it sees them; others do after a barrier.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Four matrices of 8 x 8 elements of 16 bits. Lanes 8 i to 8 i + 7 give the addresses of matrix i's rows (16 bytes,
/// aligned to 16); in r[i] lane l gets row l / 4, columns 2 (l % 4) and the next. All lanes call it.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// The same of the transposed matrices: lane l gets column l / 4, rows 2 (l % 4) and the next.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Two matrices; addresses of lanes 0 to 15.
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

/// The reverse of ldmatrix_x4: lane l's r[i] becomes row l / 4 of matrix i, columns 2 (l % 4) and the next. sm_90.
__device__ __forceinline__ void stmatrix_x4(void* row, const uint32_t (&r)[4]) {
  FASTCONV_ASM_SM90("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
                    "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

/// The reverse of ldmatrix_x4_trans. sm_90.
__device__ __forceinline__ void stmatrix_x4_trans(void* row, const uint32_t (&r)[4]) {
  FASTCONV_ASM_SM90("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
                    "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

}  // namespace fastconv::ptx
#endif
