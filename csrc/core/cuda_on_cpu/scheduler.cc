#include "core/cuda_on_cpu/scheduler.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace fastconv::cuda_on_cpu {
namespace {

class Random {
 public:
  explicit Random(uint64_t seed) { reset(seed); }
  void reset(uint64_t seed) { state_ = seed * 0x9e3779b97f4a7c15u + 1; }
  size_t below(size_t count) {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return static_cast<size_t>(state_ % count);
  }

 private:
  uint64_t state_;
};

uint64_t first_seed() {
  const char* text = std::getenv("FASTCONV_CUDA_ON_CPU_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 1;
}

/// All there is of a run. One at a time in a process.
struct Run {
  Grid grid;
  const std::function<void()>* body = nullptr;
  std::vector<Block> cluster;
  std::vector<Thread*> ready, polling;
  std::vector<std::function<void()>> asynchronous;
  std::vector<std::unique_ptr<Fiber>> fibers;
  unsigned at_cluster = 0;  // threads that have come to the cluster's barrier in this phase
  uint64_t cluster_phase = 0;
  Context scheduler;
  Thread* current = nullptr;
  Random random{first_seed()};
  size_t slow = 0;        // the rank of a cluster's block that seldom gets its turn, or none
  size_t laziness = 8;    // asynchronous work is done about once in so many turns
  uint64_t progress = 0;  // counts whatever may end a wait
  unsigned alive = 0;
  std::string error;
};

Run& the_run() {
  static Run run;
  return run;
}
std::mutex one_at_a_time;

void make_ready(Thread& thread) {
  thread.state = Thread::State::kReady;
  the_run().ready.push_back(&thread);
}

/// Back to the scheduler, until someone makes this thread ready.
void leave(Thread::State state, const Where& where) {
  Run& run = the_run();
  Thread& self = *run.current;
  self.state = state;
  self.waits = where;
  if (state == Thread::State::kPolling) run.polling.push_back(&self);
  switch_context(self.fiber->context(), run.scheduler, state == Thread::State::kDone);
}

void release(Barrier& barrier, const Thread* self) {
  Run& run = the_run();
  ++run.progress;
  for (Thread* thread : barrier.arrived)
    if (thread && thread != self) make_ready(*thread);
  barrier.arrived.clear();
  barrier.expected = 0;
}

void open_cluster_barrier() {
  Run& run = the_run();
  ++run.progress, ++run.cluster_phase;
  run.at_cluster = 0;
}

void finish_thread() {
  Run& run = the_run();
  Thread& self = *run.current;
  Block& block = *self.block;
  if (self.at_cluster) fail("ends between arriving at the cluster's barrier and waiting there", {"end", "", 0});
  --block.alive, --run.alive, ++run.progress;
  // Threads that have ended count as arrived.
  Barrier& all = block.barriers[0];
  if (!all.arrived.empty() && all.arrived.size() >= block.alive) release(all, nullptr);
  if (run.at_cluster > 0 && run.at_cluster >= run.alive) open_cluster_barrier();
  leave(Thread::State::kDone, {"end", "", 0});
}

void thread_main() {
  (*the_run().body)();
  finish_thread();
}

void set_up_cluster(Run& run, const Dim3& first) {
  const Grid& g = run.grid;
  const unsigned count = g.block.count(), blocks = g.cluster.count();
  run.cluster.resize(blocks);
  run.ready.clear(), run.polling.clear(), run.asynchronous.clear();
  run.at_cluster = 0;
  run.laziness = size_t{2} << 3 * run.random.below(4);  // from nearly at once to when nothing else can go on
  run.slow = blocks > 1 ? run.random.below(blocks + 1) : blocks;
  run.alive = count * blocks;
  while (run.fibers.size() < run.alive) run.fibers.push_back(std::make_unique<Fiber>());
  for (unsigned rank = 0; rank < blocks; ++rank) {
    Block& block = run.cluster[rank];
    const unsigned cx = rank % g.cluster.x, cy = rank / g.cluster.x % g.cluster.y,
                   cz = rank / (g.cluster.x * g.cluster.y);
    block.index = {first.x + cx, first.y + cy, first.z + cz};
    block.rank = rank;
    block.alive = count;
    block.threads.resize(count);
    block.warps.assign((count + kWarp - 1) / kWarp, {});
    block.warp_groups.assign((count + 4 * kWarp - 1) / (4 * kWarp), nullptr);
    for (Barrier& barrier : block.barriers) barrier = {};
    block.shared_bytes = g.shared_bytes;
    void* memory = nullptr;
    if (g.shared_bytes && posix_memalign(&memory, 1024, g.shared_bytes)) throw std::bad_alloc();
    if (memory) std::memset(memory, 0xff, g.shared_bytes);
    block.shared = static_cast<char*>(memory);
    block.async_view.clear();
    for (unsigned i = 0; i < count; ++i) {
      Thread& thread = block.threads[i];
      thread.index = {i % g.block.x, i / g.block.x % g.block.y, i / (g.block.x * g.block.y)};
      thread.linear = i;
      thread.block = &block;
      thread.fiber = run.fibers[rank * count + i].get();
      thread.open_group.clear(), thread.groups.clear();
      thread.bulk_stores.reset(), thread.wgmma.reset();
      thread.at_cluster = false;
      thread.fiber->start(thread_main);
      make_ready(thread);
    }
  }
}

void run_asynchronous(Run& run) {
  const size_t at = run.random.below(run.asynchronous.size());
  const std::function<void()> work = std::move(run.asynchronous[at]);
  run.asynchronous.erase(run.asynchronous.begin() + static_cast<std::ptrdiff_t>(at));
  run.current = nullptr;
  try {
    work();
  } catch (const std::runtime_error& error) {  // of `fail`
    run.error = error.what();
  }
  ++run.progress;
}

void run_cluster(Run& run) {
  uint64_t polled_at = ~uint64_t{0};
  while (run.alive > 0 && run.error.empty()) {
    if (!run.asynchronous.empty() && (run.ready.empty() || run.random.below(run.laziness) == 0)) run_asynchronous(run);
    // Polling goes on only where something has changed: hundreds that poll in vain would never leave `ready` empty.
    if (run.ready.empty() || (!run.polling.empty() && run.progress != polled_at && run.random.below(16) == 0)) {
      if (run.ready.empty() && (run.polling.empty() || run.progress == polled_at) && run.asynchronous.empty()) {
        run.error = deadlock_text(run.cluster);
        break;
      }
      polled_at = run.progress;
      for (Thread* thread : std::exchange(run.polling, {})) make_ready(*thread);
      if (run.ready.empty()) continue;
    }
    size_t at = run.random.below(run.ready.size());
    while (run.ready[at]->block->rank == run.slow && run.random.below(8) != 0) at = run.random.below(run.ready.size());
    run.current = run.ready[at];
    run.ready[at] = run.ready.back();
    run.ready.pop_back();
    switch_context(run.scheduler, run.current->fiber->context());
  }
  while (!run.asynchronous.empty() && run.error.empty()) run_asynchronous(run);
  run.current = nullptr;
  for (Block& block : run.cluster) std::free(block.shared);
}

void find_own_stack(Context& context) {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
  pthread_attr_getstack(&attributes, &context.bottom, &context.size);
  pthread_attr_destroy(&attributes);
}

}  // namespace

Thread& current() { return *the_run().current; }
const Grid& grid() { return the_run().grid; }
Block& block_of_rank(unsigned rank) { return the_run().cluster[rank]; }

void set_seed(uint64_t seed) { the_run().random.reset(seed); }

void run_grid(const Grid& grid, const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  Run& run = the_run();
  run.grid = grid;
  run.body = &body;
  run.error.clear();
  find_own_stack(run.scheduler);
  const Dim3 &blocks = grid.grid, &cluster = grid.cluster;
  if (blocks.x % cluster.x || blocks.y % cluster.y || blocks.z % cluster.z)
    throw std::runtime_error(std::string(grid.kernel) + ": the grid is not made of whole clusters");
  std::vector<Dim3> firsts;
  for (unsigned z = 0; z < blocks.z; z += cluster.z)
    for (unsigned y = 0; y < blocks.y; y += cluster.y)
      for (unsigned x = 0; x < blocks.x; x += cluster.x) firsts.push_back({x, y, z});
  for (size_t left = firsts.size(); left > 0; --left) {
    std::swap(firsts[run.random.below(left)], firsts[left - 1]);
    set_up_cluster(run, firsts[left - 1]);
    run_cluster(run);
    if (!run.error.empty()) throw std::runtime_error(std::string(grid.kernel) + ": " + run.error);
  }
}

void wait_at_barrier(unsigned id, unsigned count, const Where& where) {
  Run& run = the_run();
  Thread& self = *run.current;
  Barrier& barrier = self.block->barriers[id];
  arrive_at_barrier(id, count, where);
  if (barrier.arrived.empty()) return;
  barrier.arrived.back() = &self;
  leave(Thread::State::kWaiting, where);
}

void arrive_at_barrier(unsigned id, unsigned count, const Where& where) {
  Thread& self = *the_run().current;
  Barrier& barrier = self.block->barriers[id];
  if (!barrier.arrived.empty() && barrier.expected != count) fail("barrier with two different counts", where);
  barrier.expected = count;
  barrier.arrived.push_back(nullptr);
  if (barrier.arrived.size() >= (count ? count : self.block->alive)) release(barrier, &self);
}

void arrive_at_cluster(const Where& where) {
  Run& run = the_run();
  Thread& self = *run.current;
  if (self.at_cluster) fail("arrives twice at the cluster's barrier", where);
  self.at_cluster = true;
  self.cluster_phase = run.cluster_phase;
  if (++run.at_cluster >= run.alive) open_cluster_barrier();
}

void wait_for_cluster(const Where& where) {
  Run& run = the_run();
  Thread& self = *run.current;
  if (!self.at_cluster) fail("waits at the cluster's barrier without having arrived", where);
  wait_until([&] { return run.cluster_phase != self.cluster_phase; }, where);
  self.at_cluster = false;
}

void in_warp(unsigned mask, void* mine, void (*all)(void* const* slots, unsigned mask), const Where& where) {
  Run& run = the_run();
  Thread& self = *run.current;
  Warp& warp = self.block->warps[self.warp()];
  if (!(mask >> self.lane() & 1)) fail("a lane outside the mask", where);
  if (warp.arrived && std::strcmp(warp.what, where.what) != 0)
    fail(std::string("lanes of one warp meet in different operations, one of them ") + warp.what, where);
  warp.what = where.what;
  warp.arrived |= 1u << self.lane();
  warp.slots[self.lane()] = mine;
  warp.threads[self.lane()] = &self;
  if (warp.arrived != mask) return leave(Thread::State::kWaiting, where);
  all(warp.slots, mask);
  warp.arrived = 0;
  ++run.progress;
  for (unsigned lane = 0; lane < kWarp; ++lane)
    if ((mask >> lane & 1) && lane != self.lane()) make_ready(*warp.threads[lane]);
}

void wait_until(const std::function<bool()>& ready, const Where& where) {
  while (!ready()) leave(Thread::State::kPolling, where);
}

void note_progress() { ++the_run().progress; }

void pause(const Where& where) { leave(Thread::State::kPolling, where); }

void later(std::function<void()> work) { the_run().asynchronous.push_back(std::move(work)); }

bool cluster_has_ended() { return the_run().alive == 0; }

void fail(const std::string& what, const Where& where) {
  Run& run = the_run();
  if (!run.current) throw std::runtime_error(what + ", begun at " + text_of(where));
  run.error = what + ", thread " + std::to_string(run.current->linear) + " at " + text_of(where);
  leave(Thread::State::kWaiting, where);
  std::abort();  // never reached: the run has ended
}

}  // namespace fastconv::cuda_on_cpu
