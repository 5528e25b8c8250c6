// Barriers: mbarriers in shared memory, named ones, the cluster's; and what else belongs to kernels whose warps have
// different roles (sm_90; named barriers: sm_80).
#pragma once

#include "core/cuda/device.h"

#if !defined(__CUDACC__)
#include "core/cuda_on_cpu/ptx_barrier.h"
#else
#include "core/cuda/ptx_asm.h"

namespace fastconv::ptx {

/// A barrier in shared memory whose phase ends when `arrivals` have come and every byte that was announced has landed.
/// One thread makes it; the others may use it after fence_mbarrier_init and a barrier.
__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

/// What mbarrier_init wrote can be seen by the cluster and by bulk copies.
__device__ __forceinline__ void fence_mbarrier_init() {
  FASTCONV_ASM_SM90("fence.mbarrier_init.release.cluster;" :: : "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  FASTCONV_ASM_SM90("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/// Arrives at the barrier that lies at the same place in the shared memory of block `rank` of the cluster.
__device__ __forceinline__ void mbarrier_arrive_at_rank(uint64_t* barrier, unsigned rank) {
  FASTCONV_ASM_SM90(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(barrier)),
      "r"(rank) : "memory");
}

/// Arrives, and announces `bytes` that bulk copies will bring in this phase.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint64_t* barrier, unsigned bytes) {
  FASTCONV_ASM_SM90("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                    "r"(bytes) : "memory");
}

/// Arrives when all that this thread began by cp_async so far has landed (sm_80). Do not wait for it by cp_async_wait
/// too.
__device__ __forceinline__ void cp_async_arrive(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/// Announces bytes without arriving.
__device__ __forceinline__ void mbarrier_expect_tx(uint64_t* barrier, unsigned bytes) {
  FASTCONV_ASM_SM90("mbarrier.expect_tx.relaxed.cta.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                    "r"(bytes) : "memory");
}

/// Whether the phase of this parity has ended (phases count from 0; parity 1 of a new barrier has). May take its time.
__device__ __forceinline__ bool mbarrier_try_wait(uint64_t* barrier, unsigned parity) {
  unsigned done = 0;
  FASTCONV_ASM_SM90(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(done) : "r"(
          shared_address(barrier)),
      "r"(parity) : "memory");
  return done != 0;
}

__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, unsigned parity) {
  while (!mbarrier_try_wait(barrier, parity)) {
  }
}

/// Waits at barrier `id` (1 to 15; 0 is that of __syncthreads) until `threads` of the block, whole warps, have come.
__device__ __forceinline__ void named_barrier_sync(unsigned id, unsigned threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Comes to barrier `id` without waiting.
__device__ __forceinline__ void named_barrier_arrive(unsigned id, unsigned threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// What this thread wrote to shared memory can be seen by bulk copies and wgmma that begin later.
__device__ __forceinline__ void fence_proxy_async() { FASTCONV_ASM_SM90("fence.proxy.async;" :: : "memory"); }

/// True in one lane of the warp, always the same one. All lanes call it.
__device__ __forceinline__ bool elect_one() {
  unsigned elected = 0;
  FASTCONV_ASM_SM90("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected));
  return elected != 0;
}

/// The warps of a warpgroup give registers away, or wait for them: from here each thread has kRegisters.
template <int kRegisters>
__device__ __forceinline__ void decrease_max_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  FASTCONV_ASM_SM90A("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void increase_max_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
  FASTCONV_ASM_SM90A("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// This block's rank in its cluster.
__device__ __forceinline__ unsigned cluster_rank() {
  unsigned rank = 0;
  FASTCONV_ASM_SM90("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/// Every thread of the cluster arrives, and waits until all have: what they wrote before can be seen.
__device__ __forceinline__ void cluster_arrive() { FASTCONV_ASM_SM90("barrier.cluster.arrive.aligned;" :: : "memory"); }
__device__ __forceinline__ void cluster_wait() { FASTCONV_ASM_SM90("barrier.cluster.wait.aligned;" :: : "memory"); }
__device__ __forceinline__ void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

/// Where `shared` of this block lies in block `rank` of the cluster; may be read and written like any memory while that
/// block runs.
template <class T>
__device__ __forceinline__ T* shared_of_rank(T* shared, unsigned rank) {
  uint64_t there = 0;
  FASTCONV_ASM_SM90("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(shared), "r"(rank));
  return reinterpret_cast<T*>(there);
}

}  // namespace fastconv::ptx
#endif
