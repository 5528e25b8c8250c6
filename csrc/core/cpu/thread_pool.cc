#include "core/cpu/thread_pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

class Workers {
 public:
  explicit Workers(int threads) : threads_(threads) {}

  /// Ends the workers; from then on calls run on their own threads. Workers come with the first call that wants them.
  void retire() {
    const std::lock_guard one_at_a_time(running_);
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      ++round_;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  int threads() const { return threads_; }

  void run(int64_t tasks, void (*body)(void*, int64_t), void* context) {
    // A caller that finds the workers busy with another's work, or is one of them, does its own.
    std::unique_lock mine(running_, std::defer_lock);
    if (threads_ == 1 || inside || !mine.try_lock() || stop_) {
      for (int64_t task = 0; task < tasks; ++task) body(context, task);
      return;
    }
    while (static_cast<int>(workers_.size()) < threads_ - 1)
      workers_.emplace_back([this, i = static_cast<int>(workers_.size()) + 1, seen = round_.load()] { loop(i, seen); });
    {
      std::lock_guard lock(mutex_);
      body_ = body, context_ = context, tasks_ = tasks;
      busy_ = static_cast<int>(workers_.size());
      ++round_;
    }
    wake_.notify_all();
    work(0);
    while (busy_.load(std::memory_order_acquire) > 0) {
    }
  }

 private:
  /// Each thread has the same part in every call, as under torch: what it wrote may still be in its core's cache.
  void work(int thread) {
    inside = true;
    const Range mine = part_of(tasks_, threads_, thread);
    for (int64_t task = mine.begin; task < mine.end; ++task) body_(context_, task);
    inside = false;
  }

  void loop(int thread, uint64_t seen) {
    for (;;) {
      for (int spin = 0; spin < 20000 && round_.load(std::memory_order_acquire) == seen; ++spin) {
      }
      if (round_.load() == seen) {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return round_.load() != seen; });
      }
      seen = round_.load();
      {
        std::lock_guard lock(mutex_);
      }  // the round's fields are complete once the lock is free
      if (stop_) return;
      work(thread);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  static thread_local bool inside;
  std::vector<std::thread> workers_;
  std::mutex running_, mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> round_{0};
  std::atomic<int> busy_{0};
  std::atomic<bool> stop_{false};
  const int threads_;
  int64_t tasks_ = 0;
  void (*body_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
};

thread_local bool Workers::inside = false;

/// The pool in use. Pools are retired, not destroyed: a caller may be on its way into one, also at the process's end.
struct Pool {
  std::atomic<Workers*> workers{nullptr};
  void become(Workers* next) {
    if (Workers* before = workers.exchange(next)) before->retire();
  }
  ~Pool() {
    if (Workers* last = workers.load()) last->retire();
  }
};
Pool pool;

/// A child of a fork has none of the workers, and their locks as the fork found them: it leaves the old ones alone,
/// and what it needs of them, it makes anew.
void begin_anew_in_child() {
  if (const Workers* lost = pool.workers.load()) pool.workers = new Workers(lost->threads());
}

}  // namespace

void use_threads(int threads) {
  static const int registered = pthread_atfork(nullptr, nullptr, begin_anew_in_child);
  (void)registered;
  pool.become(new Workers(threads));
  set_thread_pool({[] { return pool.workers.load()->threads(); },
                   [](int64_t tasks, void (*body)(void*, int64_t), void* context) {
                     pool.workers.load()->run(tasks, body, context);
                   }});
}

}  // namespace fastconv
