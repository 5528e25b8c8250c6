// The one way in which a CPU kernel uses several threads.
#pragma once

#include <cstdint>
#include <type_traits>

namespace fastconv {

/// Threads and how to use them: torch's pool under torch, the tools' own elsewhere. Serial until one is set.
struct ThreadPool {
  int (*num_threads)();
  /// Calls `body(context, task)` once for each task in [0, tasks), on any thread, and returns after the last.
  void (*run)(int64_t tasks, void (*body)(void* context, int64_t task), void* context);
};

void set_thread_pool(ThreadPool pool);

/// Threads the next `parallel_for` of this thread may use.
int num_threads();

void parallel_run(int64_t tasks, void (*body)(void*, int64_t), void* context);

/// Calls `body(task)` for each task in [0, tasks). A kernel that keeps a buffer per thread makes `num_threads()`
/// tasks and gives each its slice: the task's number names the slice, whichever thread runs it.
template <class Body>
void parallel_for(int64_t tasks, Body&& body) {
  if (tasks <= 0) return;
  if (tasks == 1) {
    body(int64_t{0});
    return;
  }
  parallel_run(
      tasks, [](void* context, int64_t task) { (*static_cast<std::remove_reference_t<Body>*>(context))(task); }, &body);
}

/// The half-open part of [0, count) that part `index` of `parts` does, even to one unit.
struct Range {
  int64_t begin, end;
};
inline Range part_of(int64_t count, int64_t parts, int64_t index) {
  const int64_t base = count / parts, rest = count % parts;
  const int64_t begin = index * base + (index < rest ? index : rest);
  return {begin, begin + base + (index < rest ? 1 : 0)};
}

}  // namespace fastconv
