#include "python/family.h"

namespace fastconv {

std::mutex one_call;

std::string algorithm_in(const std::string& name) {
  for (const char* algorithm : Names<Algorithm>::kAll)
    if (name.find("_" + std::string(algorithm) + "_") != std::string::npos) return algorithm;
  return "";
}

}  // namespace fastconv
