// mbarriers, named barriers, clusters.

#include <vector>

#include "tools/cuda_on_cpu_test.h"

namespace fastconv {
namespace {

struct Memory {
  uint64_t full, empty;
  int value[4];
};
constexpr size_t kShared = sizeof(Memory);

/// One thread makes values, the other warp takes them, over a slot that both barriers guard.
void hand_over(std::vector<int>& out, int rounds) {
  auto& s = shared_memory<Memory>();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&s.full, 1);
    ptx::mbarrier_init(&s.empty, 32);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 0; i < rounds; ++i) {
      ptx::mbarrier_wait(&s.empty, (i & 1) ^ 1);
      s.value[0] = i * i;
      ptx::mbarrier_arrive(&s.full);
    }
  } else if (threadIdx.x >= 32) {
    for (int i = 0; i < rounds; ++i) {
      while (!ptx::mbarrier_try_wait(&s.full, i & 1)) {
      }
      out[static_cast<size_t>(i)] += s.value[0];
      ptx::mbarrier_arrive(&s.empty);
    }
  }
}

void test_mbarriers() {
  std::vector<int> out(7);
  run({.threads = 64, .shared_bytes = kShared}, [&] { hand_over(out, 7); });
  bool right = true;
  for (int i = 0; i < 7; ++i) right &= out[static_cast<size_t>(i)] == i * i * 32 * kSeeds;
  expect(right, "two mbarriers hand values over");

  const Shape one{.threads = 1, .shared_bytes = kShared};
  uint64_t* (*const barrier)() = [] { return &shared_memory<Memory>().full; };
  expect(has(error_of(one, [&] { ptx::mbarrier_arrive(barrier()); }), "not made"), "an mbarrier that was not made");
  expect(has(error_of({.threads = 3, .shared_bytes = kShared},
                      [&] {
                        if (threadIdx.x == 0) ptx::mbarrier_init(barrier(), 2), ptx::mbarrier_expect_tx(barrier(), 16);
                        __syncthreads();
                        ptx::mbarrier_arrive(barrier());
                      }),
             "more arrivals"),
         "too many arrivals");
  const std::string text = error_of(one, [&] {
    ptx::mbarrier_init(barrier(), 1);
    ptx::mbarrier_arrive_expect_tx(barrier(), 32);
    ptx::mbarrier_wait(barrier(), 0);
  });
  expect(has(text, "deadlock") && has(text, "mbarrier_wait (cuda_on_cpu_test_barriers.cc:"), "bytes that never come");
}

void test_copies_that_arrive() {
  const int from[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  bool right = true;
  run({.threads = 32, .shared_bytes = kShared + 128}, [&] {
    auto& s = shared_memory<Memory>();
    int* to = reinterpret_cast<int*>(&s + 1);
    if (threadIdx.x == 0) ptx::mbarrier_init(&s.full, 32);
    __syncwarp();
    ptx::cp_async<4>(to + threadIdx.x, from + threadIdx.x);
    ptx::cp_async_arrive(&s.full);
    ptx::mbarrier_wait(&s.full, 0);
    for (int i = 0; i < 32; ++i) right &= to[i] == from[i];
  });
  expect(right, "cp_async_arrive");
}

void test_named_barriers() {
  std::vector<int> out(64);
  run({.threads = 128, .shared_bytes = kShared}, [&] {
    auto& s = shared_memory<Memory>();
    const unsigned warp = threadIdx.x / 32;
    if (warp == 0) {
      if (threadIdx.x == 3) s.value[1] = 17;
      ptx::named_barrier_arrive(3, 96);
    } else if (warp < 3) {
      ptx::named_barrier_sync(3, 96);
      out[threadIdx.x - 32] = s.value[1];
    }
  });
  expect(out == std::vector<int>(64, 17), "a named barrier of three warps");
  expect(
      has(error_of({.threads = 64}, [] { ptx::named_barrier_sync(1, threadIdx.x < 32 ? 64u : 32u); }), "two different"),
      "a named barrier with two counts");
}

void test_clusters() {
  std::vector<int> out(8), rank(8);
  run({.threads = 32, .blocks = 8, .cluster = 4, .shared_bytes = kShared}, [&] {
    auto& s = shared_memory<Memory>();
    if (threadIdx.x == 0) {
      s.value[2] = static_cast<int>(blockIdx.x * 100);
      ptx::mbarrier_init(&s.full, 4 * 32);
      ptx::fence_mbarrier_init();
    }
    ptx::cluster_arrive();
    ptx::cluster_wait();
    int sum = 0;
    for (unsigned other = 0; other < 4; ++other) sum += *ptx::shared_of_rank(&s.value[2], other);
    for (unsigned other = 0; other < 4; ++other) ptx::mbarrier_arrive_at_rank(&s.full, other);
    ptx::mbarrier_wait(&s.full, 0);
    if (threadIdx.x == 5) out[blockIdx.x] = sum, rank[blockIdx.x] = static_cast<int>(ptx::cluster_rank());
    ptx::cluster_sync();
  });
  expect(out == std::vector<int>({600, 600, 600, 600, 2200, 2200, 2200, 2200}), "shared memory of a cluster");
  expect(rank == std::vector<int>({0, 1, 2, 3, 0, 1, 2, 3}), "ranks in a cluster");
  expect(has(error_of({.threads = 32, .blocks = 2, .cluster = 2},
                      [] {
                        if (threadIdx.x || blockIdx.x) ptx::cluster_sync();
                        else __syncthreads();
                      }),
             "cluster_sync"),
         "a cluster that not all reach");
  expect(has(error_of({.threads = 32, .blocks = 2, .cluster = 2, .shared_bytes = kShared},
                      [] {
                        if (blockIdx.x) return;
                        cuda_on_cpu::wait_until([] { return cuda_on_cpu::block_of_rank(1).alive == 0; }, {});
                        ptx::mbarrier_arrive_at_rank(&shared_memory<Memory>().full, 1);
                      }),
             "has ended"),
         "an arrival at a block that has ended");
}

}  // namespace

void test_barriers() {
  test_mbarriers();
  test_copies_that_arrive();
  test_named_barriers();
  test_clusters();
  std::vector<int> elected(3);
  run({.threads = 96}, [&] {
    ptx::decrease_max_registers<40>();
    if (ptx::elect_one()) ++elected[threadIdx.x / 32];
    ptx::increase_max_registers<232>();
  });
  expect(elected == std::vector<int>(3, kSeeds), "elect_one elects one lane a warp");
}

}  // namespace fastconv
