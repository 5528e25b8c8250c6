#include "python/family.h"

#include <pthread.h>

namespace fastconv {

std::mutex one_call;

namespace {

/// A fork waits for the call of another thread, whose lock nobody would open in the child.
const int waits_at_fork = pthread_atfork([] { one_call.lock(); }, [] { one_call.unlock(); }, [] { one_call.unlock(); });

}  // namespace

std::string algorithm_in(const std::string& name) {
  for (const char* algorithm : Names<Algorithm>::kAll)
    if (name.find("_" + std::string(algorithm) + "_") != std::string::npos) return algorithm;
  return "";
}

}  // namespace fastconv
