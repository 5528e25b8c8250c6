#include "core/cuda_on_cpu/ptx_barrier.h"

#include "core/cuda_on_cpu/ptx_async.h"

namespace fastconv::cuda_on_cpu {
namespace {

/// How an mbarrier fills its 64 bits here. Memory that was never written has `invalid` set.
struct MBarrier {
  uint64_t pending : 20, arrivals : 20, phase : 1, invalid : 1;
  int64_t bytes : 22;
};
static_assert(sizeof(MBarrier) == sizeof(uint64_t));

constexpr int64_t kMostBytes = (1 << 20) - 1;

MBarrier load(const uint64_t* barrier) {
  MBarrier state;
  std::memcpy(&state, barrier, sizeof(state));
  return state;
}
void store(uint64_t* barrier, const MBarrier& state) { std::memcpy(barrier, &state, sizeof(state)); }

bool has_passed(const uint64_t* barrier, unsigned parity, const Where& where) {
  check_shared(barrier, 8, 8, where);
  check_mbarrier(barrier, where);
  if (parity > 1) fail("the parity of a phase is 0 or 1", where);
  return load(barrier).phase != parity;
}

}  // namespace

void check_mbarrier(const uint64_t* barrier, const Where& where) {
  if (load(barrier).invalid) fail("an mbarrier that was not made", where);
}

void init_mbarrier(uint64_t* barrier, unsigned arrivals, const Where& where) {
  check_shared(barrier, 8, 8, where);
  if (arrivals == 0 || arrivals >= 1 << 20) fail("an mbarrier for no arrivals, or too many", where);
  MBarrier state = {};
  state.pending = state.arrivals = arrivals;
  store(barrier, state);
}

void change_mbarrier(uint64_t* barrier, unsigned arrivals, int64_t bytes, const Where& where) {
  check_mbarrier(barrier, where);
  MBarrier state = load(barrier);
  if (arrivals > state.pending) fail("more arrivals at an mbarrier than it was made for", where);
  const int64_t sum = state.bytes + bytes;
  if (sum > kMostBytes || sum < -kMostBytes) fail("more than 2^20 - 1 bytes in one phase of an mbarrier", where);
  state.pending -= arrivals;
  state.bytes = sum;
  if (state.pending == 0 && state.bytes == 0) {
    state.phase ^= 1;
    state.pending = state.arrivals;
  }
  store(barrier, state);
  note_progress();
}

void wait_for_mbarrier(uint64_t* barrier, unsigned parity, const Where& where) {
  wait_until([&] { return has_passed(barrier, parity, where); }, where);
}

bool try_to_wait_for_mbarrier(uint64_t* barrier, unsigned parity, const Where& where) {
  if (!has_passed(barrier, parity, where)) pause(where);
  return has_passed(barrier, parity, where);
}

void arrive_after_copies(uint64_t* barrier, const Where& where) {
  check_shared(barrier, 8, 8, where);
  check_mbarrier(barrier, where);
  Thread& self = current();
  std::vector<PendingCopy> copies = std::move(self.open_group);
  self.open_group.clear();
  for (auto& group : self.groups) {
    copies.insert(copies.end(), group.begin(), group.end());
    group.clear();
  }
  later([=] {
    if (cluster_has_ended()) fail("a block ended before its copies had landed", where);
    for (const PendingCopy& copy : copies) land(copy);
    change_mbarrier(barrier, 1, 0, where);
  });
}

void* in_rank(const void* shared, unsigned rank, const Where& where) {
  check_shared(shared, 1, 1, where);
  if (rank >= grid().cluster.count()) fail("a rank outside the cluster", where);
  if (block_of_rank(rank).alive == 0) fail("the block of that rank has ended", where);
  return block_of_rank(rank).shared + (static_cast<const char*>(shared) - current().block->shared);
}

void named_barrier(unsigned id, unsigned threads, bool wait, const Where& where) {
  if (id > 15) fail("named barriers have the numbers 0 to 15", where);
  if (threads == 0 || threads % kWarp != 0) fail("a named barrier is for whole warps", where);
  if (wait) wait_at_barrier(id, threads, where);
  else arrive_at_barrier(id, threads, where);
}

void show_to_async_proxy() {
  Block& block = *current().block;
  if (block.shared_bytes) std::memcpy(async_view(block), block.shared, block.shared_bytes);
}

bool elect(const Where& where) {
  in_warp(kFull, nullptr, [](void* const*, unsigned) {}, where);
  // Any would do on a GPU; not lane 0, so that kernels do not count on it.
  return current().lane() == 13;
}

}  // namespace fastconv::cuda_on_cpu
