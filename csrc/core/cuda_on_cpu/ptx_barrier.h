// Twins of core/cuda/ptx_barrier.h. Register counts mean nothing here, nor do fences but that of the async proxy.
#pragma once

#include "core/cuda_on_cpu/device.h"
#include "core/cuda_on_cpu/shared.h"

namespace fastconv::cuda_on_cpu {

void init_mbarrier(uint64_t* barrier, unsigned arrivals, const Where& where);
/// `arrivals` come and `bytes` are announced (negative: landed); ends the phase if nothing is missing then.
void change_mbarrier(uint64_t* barrier, unsigned arrivals, int64_t bytes, const Where& where);
void wait_for_mbarrier(uint64_t* barrier, unsigned parity, const Where& where);
bool try_to_wait_for_mbarrier(uint64_t* barrier, unsigned parity, const Where& where);
/// Whether it was made and not overwritten; said before something asynchronous counts on it.
void check_mbarrier(const uint64_t* barrier, const Where& where);

/// Arrives after the thread's copies, at a random moment; they belong to no group from then on.
void arrive_after_copies(uint64_t* barrier, const Where& where);

/// The same place in the shared memory of another block of the cluster.
void* in_rank(const void* shared, unsigned rank, const Where& where);

void named_barrier(unsigned id, unsigned threads, bool wait, const Where& where);
bool elect(const Where& where);

void show_to_async_proxy();

}  // namespace fastconv::cuda_on_cpu

namespace fastconv::ptx {

inline void mbarrier_init(uint64_t* barrier, unsigned arrivals, const char* file = __builtin_FILE(),
                          int line = __builtin_LINE()) {
  cuda_on_cpu::init_mbarrier(barrier, arrivals, {"mbarrier_init", file, line});
}
inline void fence_mbarrier_init() {}
inline void mbarrier_arrive(uint64_t* barrier, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const cuda_on_cpu::Where where{"mbarrier_arrive", file, line};
  cuda_on_cpu::check_shared(barrier, 8, 8, where);
  cuda_on_cpu::change_mbarrier(barrier, 1, 0, where);
}
inline void mbarrier_arrive_at_rank(uint64_t* barrier, unsigned rank, const char* file = __builtin_FILE(),
                                    int line = __builtin_LINE()) {
  const cuda_on_cpu::Where where{"mbarrier_arrive_at_rank", file, line};
  cuda_on_cpu::change_mbarrier(static_cast<uint64_t*>(cuda_on_cpu::in_rank(barrier, rank, where)), 1, 0, where);
}
inline void mbarrier_arrive_expect_tx(uint64_t* barrier, unsigned bytes, const char* file = __builtin_FILE(),
                                      int line = __builtin_LINE()) {
  const cuda_on_cpu::Where where{"mbarrier_arrive_expect_tx", file, line};
  cuda_on_cpu::check_shared(barrier, 8, 8, where);
  cuda_on_cpu::change_mbarrier(barrier, 1, bytes, where);
}
inline void cp_async_arrive(uint64_t* barrier, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::arrive_after_copies(barrier, {"cp_async_arrive", file, line});
}
inline void mbarrier_expect_tx(uint64_t* barrier, unsigned bytes, const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) {
  const cuda_on_cpu::Where where{"mbarrier_expect_tx", file, line};
  cuda_on_cpu::check_shared(barrier, 8, 8, where);
  cuda_on_cpu::change_mbarrier(barrier, 0, bytes, where);
}
inline bool mbarrier_try_wait(uint64_t* barrier, unsigned parity, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return cuda_on_cpu::try_to_wait_for_mbarrier(barrier, parity, {"mbarrier_try_wait", file, line});
}
inline void mbarrier_wait(uint64_t* barrier, unsigned parity, const char* file = __builtin_FILE(),
                          int line = __builtin_LINE()) {
  cuda_on_cpu::wait_for_mbarrier(barrier, parity, {"mbarrier_wait", file, line});
}

inline void named_barrier_sync(unsigned id, unsigned threads, const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) {
  cuda_on_cpu::named_barrier(id, threads, true, {"named_barrier_sync", file, line});
}
inline void named_barrier_arrive(unsigned id, unsigned threads, const char* file = __builtin_FILE(),
                                 int line = __builtin_LINE()) {
  cuda_on_cpu::named_barrier(id, threads, false, {"named_barrier_arrive", file, line});
}

inline void fence_proxy_async() { cuda_on_cpu::show_to_async_proxy(); }
inline bool elect_one(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return cuda_on_cpu::elect({"elect_one", file, line});
}

template <int kRegisters>
void decrease_max_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
void increase_max_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

inline unsigned cluster_rank() { return cuda_on_cpu::current().block->rank; }
inline void cluster_arrive(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::arrive_at_cluster({"cluster_arrive", file, line});
}
inline void cluster_wait(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wait_for_cluster({"cluster_wait", file, line});
}
inline void cluster_sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cluster_arrive(file, line);
  cuda_on_cpu::wait_for_cluster({"cluster_sync", file, line});
}

template <class T>
T* shared_of_rank(T* shared, unsigned rank, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return static_cast<T*>(cuda_on_cpu::in_rank(shared, rank, {"shared_of_rank", file, line}));
}

}  // namespace fastconv::ptx
