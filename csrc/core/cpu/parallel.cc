#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

int one_thread() { return 1; }

void run_serially(int64_t tasks, void (*body)(void*, int64_t), void* context) {
  for (int64_t task = 0; task < tasks; ++task) body(context, task);
}

ThreadPool pool{one_thread, run_serially};

}  // namespace

void set_thread_pool(ThreadPool other) { pool = other; }
int num_threads() { return pool.num_threads(); }
void parallel_run(int64_t tasks, void (*body)(void*, int64_t), void* context) { pool.run(tasks, body, context); }

}  // namespace fastconv
