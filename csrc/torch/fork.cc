#include "torch/fork.h"

#include <pthread.h>

#include <vector>

namespace fastconv::binding {
namespace {

/// Never destroyed: another thread may hold one of the locks while the process ends.
struct Locks {
  std::mutex adding;
  std::vector<std::mutex*> all;
};
Locks& locks();

void lock_all() {
  locks().adding.lock();
  for (std::mutex* one : locks().all) one->lock();
}
void unlock_all() {
  for (std::mutex* one : locks().all) one->unlock();
  locks().adding.unlock();
}

Locks& locks() {
  static Locks& the = []() -> Locks& {
    pthread_atfork(lock_all, unlock_all, unlock_all);
    return *new Locks;
  }();
  return the;
}

}  // namespace

std::mutex& fork_safe_mutex() {
  auto* made = new std::mutex;
  const std::lock_guard lock(locks().adding);
  locks().all.push_back(made);
  return *made;
}

}  // namespace fastconv::binding
