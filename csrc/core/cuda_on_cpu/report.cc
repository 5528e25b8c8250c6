#include <cstring>
#include <map>

#include "core/cuda_on_cpu/scheduler.h"

namespace fastconv::cuda_on_cpu {

std::string text_of(const Where& where) {
  const char* slash = std::strrchr(where.file, '/');
  return std::string(where.what) + " (" + (slash ? slash + 1 : where.file) + ":" + std::to_string(where.line) + ")";
}

std::string deadlock_text(const std::vector<Block>& cluster) {
  std::map<std::string, std::vector<std::string>> places;
  for (const Block& block : cluster)
    for (const Thread& thread : block.threads)
      if (thread.state != Thread::State::kDone) places[text_of(thread.waits)].push_back(std::to_string(thread.linear));
  std::string text = "deadlock:";
  for (const auto& [place, threads] : places) {
    text += "\n  " + std::to_string(threads.size()) + " threads wait at " + place + ":";
    for (size_t i = 0; i < threads.size() && i < 8; ++i) text += " " + threads[i];
    if (threads.size() > 8) text += " ...";
  }
  return text;
}

}  // namespace fastconv::cuda_on_cpu
