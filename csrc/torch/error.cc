#include "torch/error.h"

#include <cstdio>

#include "torch/api.h"

namespace fastconv::binding {
namespace {

constexpr size_t kMost = 4096;
thread_local char last[kMost];
thread_local bool is_new = false;

}  // namespace

void note_error(const char* text) {
  std::snprintf(last, kMost, "%s", text);
  is_new = true;
}

}  // namespace fastconv::binding

using namespace fastconv::binding;

const char* fastconv_last_error() { return std::exchange(is_new, false) ? last : nullptr; }
void fastconv_note_error(const char* text) { note_error(text); }
