// Runs the blocks of a grid with one fiber a thread, in a random order that a seed decides.
//
// A fiber runs until it waits: at a barrier, in an operation of its whole warp, for an mbarrier. Then any other that
// can run is taken. Blocks come in random order too; the blocks of a cluster run together, at times one far behind.
// What is asynchronous on a GPU (bulk copies) is done at a random moment between its start and the wait that needs it.
// Memory that a block has not written is NaN. If nothing can go on, the run ends with an error that says where each
// thread waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/cuda_on_cpu/fiber.h"

namespace fastconv::cuda_on_cpu {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  unsigned count() const { return x * y * z; }
};

struct Grid {
  Dim3 grid, block, cluster;
  size_t shared_bytes = 0;
  const char* kernel = "";
};

/// Where in the kernel's source something was called.
struct Where {
  const char* what;
  const char* file;
  int line;
};

class Block;
struct BulkStores;  // ptx_tma.cc
struct WgmmaGroups;
struct WarpGroup;  // ptx_wgmma.cc

constexpr unsigned kWarp = 32;
constexpr unsigned kFull = 0xffffffffu;

/// A copy that cp.async began: it lands when its group is waited for.
struct PendingCopy {
  void* to;
  const void* from;
  size_t bytes, zeros;  // `zeros` follow the bytes
};

/// One CUDA thread.
struct Thread {
  Dim3 index;
  unsigned linear = 0;
  Block* block = nullptr;
  Fiber* fiber = nullptr;
  Where waits{"", "", 0};
  enum class State : uint8_t { kReady, kWaiting, kPolling, kDone } state = State::kReady;
  std::vector<PendingCopy> open_group;
  std::vector<std::vector<PendingCopy>> groups;
  std::shared_ptr<BulkStores> bulk_stores;
  std::shared_ptr<WgmmaGroups> wgmma;
  bool at_cluster = false;     // has come to the cluster's barrier and not waited yet,
  uint64_t cluster_phase = 0;  // which was in this phase then

  unsigned lane() const { return linear % kWarp; }
  unsigned warp() const { return linear / kWarp; }
};

/// Threads that have come to the same place.
struct Barrier {
  unsigned expected = 0;
  std::vector<Thread*> arrived;
};

struct Warp {
  unsigned arrived = 0;
  const char* what = nullptr;
  void* slots[kWarp] = {};
  Thread* threads[kWarp] = {};
};

class Block {
 public:
  Dim3 index;
  unsigned rank = 0;  // in its cluster
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<std::shared_ptr<WarpGroup>> warp_groups;
  Barrier barriers[16];  // 0 is that of __syncthreads
  unsigned alive = 0;
  char* shared = nullptr;
  size_t shared_bytes = 0;
  std::vector<char> async_view;  // shared.h
};

/// The thread that runs.
Thread& current();
const Grid& grid();
/// The blocks of the running cluster, by rank.
Block& block_of_rank(unsigned rank);

/// Runs `body` once for every thread of the grid. Throws std::runtime_error on a deadlock and on what a kernel may not
/// do (a barrier or warp operation that its threads do not share).
void run_grid(const Grid& grid, const std::function<void()>& body);

/// The order of everything that is run from now on. The environment's FASTCONV_CUDA_ON_CPU_SEED is the first.
void set_seed(uint64_t seed);

/// For the names that kernels use (device.h, ptx.h):

/// Waits until `count` threads of the block have come to barrier `id`; 0: all that are alive.
void wait_at_barrier(unsigned id, unsigned count, const Where& where);
/// Comes to barrier `id` without waiting.
void arrive_at_barrier(unsigned id, unsigned count, const Where& where);
/// Comes to the cluster's barrier without waiting, and waits there until every thread of the cluster has come.
void arrive_at_cluster(const Where& where);
void wait_for_cluster(const Where& where);

/// The lanes of `mask` meet; the last to come calls `all` with what each lane brought.
void in_warp(unsigned mask, void* mine, void (*all)(void* const* slots, unsigned mask), const Where& where);

/// Waits until `ready` holds; something asynchronous or another thread makes it so.
void wait_until(const std::function<bool()>& ready, const Where& where);
/// Something changed that `wait_until` may wait for.
void note_progress();
/// Lets others go on, once.
void pause(const Where& where);

/// Does `work` at some moment before anything that waits for it goes on; at the latest when the cluster has ended.
void later(std::function<void()> work);
/// Whether all threads of the running cluster have ended: work that needs their shared memory came too late.
bool cluster_has_ended();

/// For messages: a place, and where each thread of a cluster waits, one line a place.
std::string text_of(const Where& where);
std::string deadlock_text(const std::vector<Block>& cluster);

/// Ends the run with an error, from a thread or from work done later.
[[noreturn]] void fail(const std::string& what, const Where& where);

}  // namespace fastconv::cuda_on_cpu
