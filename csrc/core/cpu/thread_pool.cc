#include "core/cpu/thread_pool.h"

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
  ~Workers() { resize(1); }

  void resize(int threads) {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      ++round_;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stop_ = false;
    threads_ = threads;
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i, seen = round_.load()] { loop(i, seen); });
  }

  int threads() const { return threads_; }

  void run(int64_t tasks, void (*body)(void*, int64_t), void* context) {
    if (workers_.empty() || inside) {
      for (int64_t task = 0; task < tasks; ++task) body(context, task);
      return;
    }
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
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> round_{0};
  std::atomic<int> busy_{0};
  std::atomic<bool> stop_{false};
  int threads_ = 1;
  int64_t tasks_ = 0;
  void (*body_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
};

thread_local bool Workers::inside = false;
Workers workers;

}  // namespace

void use_threads(int threads) {
  workers.resize(threads);
  set_thread_pool({[] { return workers.threads(); }, [](int64_t tasks, void (*body)(void*, int64_t),
                                                        void* context) { workers.run(tasks, body, context); }});
}

}  // namespace fastconv
