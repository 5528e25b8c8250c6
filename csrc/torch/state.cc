#include "torch/state.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "torch/api.h"
#include "torch/rows.h"

namespace fastconv::binding {
namespace {

constexpr int kUnset = -1;

std::atomic<bool> process_enabled{false};
std::atomic<int> process_precision{static_cast<int>(Precision::kHigh)};
std::atomic<bool> process_allow_tf32{false};
std::atomic<const ConvRow*> process_kernel[3];

/// kUnset and null where the thread follows the process.
struct Scope {
  int enabled = kUnset;
  int precision = kUnset;
  const ConvRow* kernel[3] = {};
};
thread_local Scope scope;
thread_local const ConvRow* last_kernel[3];

bool read_fallback() {
  const char* value = std::getenv("FASTCONV_FALLBACK");
  return value && !std::strcmp(value, "error");
}

}  // namespace

bool enabled() {
  const int own = scope.enabled;
  return own == kUnset ? process_enabled.load(std::memory_order_relaxed) : own != 0;
}

Settings settings() {
  Settings s;
  s.enabled = enabled();
  s.precision = static_cast<Precision>(scope.precision == kUnset ? process_precision.load(std::memory_order_relaxed)
                                                                 : scope.precision);
  s.allow_tf32 = process_allow_tf32.load(std::memory_order_relaxed);
  for (int i = 0; i < 3; ++i)
    s.kernel[i] = scope.kernel[i] ? scope.kernel[i] : process_kernel[i].load(std::memory_order_relaxed);
  return s;
}

void note_kernel(Direction direction, const ConvRow* row) { last_kernel[static_cast<int>(direction)] = row; }

bool fallback_is_error() {
  static const bool value = read_fallback();
  return value;
}

}  // namespace fastconv::binding

using namespace fastconv;
using namespace fastconv::binding;

void fastconv_set_enabled(int on) { process_enabled = on != 0; }
int fastconv_get_enabled() { return enabled(); }

int fastconv_scope_enabled(int on) {
  const int before = scope.enabled;
  scope.enabled = on;
  return before;
}

void fastconv_set_precision(int precision) { process_precision = precision; }
int fastconv_get_precision() { return static_cast<int>(settings().precision); }

int fastconv_scope_precision(int precision) {
  const int before = scope.precision;
  scope.precision = precision;
  return before;
}

int fastconv_has_cuda() { return kHasCuda; }
void fastconv_set_allow_tf32(int on) { process_allow_tf32 = on != 0; }

int fastconv_find_kernel(const char* name, int* direction) {
  const ConvRow* row = find_row(name);
  if (!row) return -1;
  *direction = static_cast<int>(row->direction);
  return index_of(row);
}

const char* fastconv_kernel_name(int index) {
  const ConvRow* row = row_at(index);
  return row ? row->name : nullptr;
}

void fastconv_set_kernel(int direction, int index) { process_kernel[direction] = row_at(index); }

int fastconv_get_kernel(int direction) { return index_of(settings().kernel[direction]); }

int fastconv_scope_kernel(int direction, int index) {
  const ConvRow* before = scope.kernel[direction];
  scope.kernel[direction] = row_at(index);
  return index_of(before);
}

void fastconv_note_kernel(int direction, int index) { note_kernel(static_cast<Direction>(direction), row_at(index)); }

const char* fastconv_last_kernel(int direction) {
  return last_kernel[direction] ? last_kernel[direction]->name : nullptr;
}
