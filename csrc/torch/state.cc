#include "torch/state.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "torch/api.h"
#include "torch/error.h"
#include "torch/rows.h"
#include "torch/select.h"

namespace fastconv::binding {
namespace {

constexpr int kUnset = -1;

std::atomic<bool> process_enabled{false};
std::atomic<int> process_precision{static_cast<int>(Precision::kHigh)};
std::atomic<bool> process_allow_tf32{false};
std::atomic<const RowBase*> process_kernel[kSlots];

/// kUnset and null where the thread follows the process.
struct Scope {
  int enabled = kUnset;
  int precision = kUnset;
  const RowBase* kernel[kSlots] = {};
};
thread_local Scope scope;
thread_local const RowBase* last_kernel[kSlots];

bool read_fallback() {
  const char* value = std::getenv("FASTCONV_FALLBACK");
  return value && !std::strcmp(value, "error");
}

int checked_precision(int precision) {
  if (precision < 0 || precision > static_cast<int>(Precision::kFast))
    throw std::runtime_error("fastconv: " + std::to_string(precision) + " is no precision");
  return precision;
}

void check_slot(int slot) {
  if (slot < 0 || slot >= kSlots)
    throw std::runtime_error("fastconv: " + std::to_string(slot) + " is no direction of a family");
}

/// The row of that index, null for -1; throws unless it computes the slot's direction.
const RowBase* row_for(int slot, int index) {
  check_slot(slot);
  const RowBase* row = row_at(index);
  if (index >= 0 && !row) throw std::runtime_error("fastconv: no kernel has the index " + std::to_string(index));
  if (row && row->slot() != slot)
    throw std::runtime_error(std::string("fastconv: kernel '") + row->name + "' computes " + name_of(row->direction) +
                             " of " + name_of(row->family) + ", not " +
                             name_of(static_cast<Direction>(slot % kMostDirections)) + " of " +
                             name_of(static_cast<FamilyId>(slot / kMostDirections)));
  return row;
}

}  // namespace

bool scope_is_open() { return scope.enabled != kUnset; }

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
  for (int i = 0; i < kSlots; ++i)
    s.kernel[i] = scope.kernel[i] ? scope.kernel[i] : process_kernel[i].load(std::memory_order_relaxed);
  return s;
}

void note_kernel(FamilyId family, Direction direction, const RowBase* row) {
  last_kernel[slot_of(family, direction)] = row;
}

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

void fastconv_set_precision(int precision) {
  guarded([&] { process_precision = checked_precision(precision); });
}
int fastconv_get_precision() { return static_cast<int>(settings().precision); }

int fastconv_scope_precision(int precision) {
  return guarded(kUnset, [&] {
    return std::exchange(scope.precision, precision == kUnset ? kUnset : checked_precision(precision));
  });
}

int fastconv_has_cuda() { return kHasCuda; }
void fastconv_set_allow_tf32(int on) { process_allow_tf32 = on != 0; }

int fastconv_slot(const char* family, const char* direction) {
  return guarded(-1, [&] {
    FamilyId id;
    Direction way;
    return value_named(family, &id) && value_named(direction, &way) ? slot_of(id, way) : -1;
  });
}

int fastconv_find_kernel(const char* name, int* slot) {
  return guarded(-1, [&] {
    const RowBase* row = find_row(name);
    if (row) *slot = row->slot();
    return index_of(row);
  });
}

const char* fastconv_kernel_name(int index) {
  const RowBase* row = row_at(index);
  return row ? row->name : nullptr;
}

void fastconv_set_kernel(int slot, int index) {
  guarded([&] { process_kernel[slot] = row_for(slot, index); });
}

int fastconv_get_kernel(int slot) {
  return guarded(-1, [&] {
    check_slot(slot);
    return index_of(settings().kernel[slot]);
  });
}

int fastconv_scope_kernel(int slot, int index) {
  return guarded(-1, [&] {
    const RowBase* row = row_for(slot, index);
    return index_of(std::exchange(scope.kernel[slot], row));
  });
}

void fastconv_note_kernel(int slot, int index) {
  guarded([&] { last_kernel[slot] = row_for(slot, index); });
}

int64_t fastconv_choices() { return choices_made(); }

const char* fastconv_last_kernel(int slot) {
  return guarded(static_cast<const char*>(nullptr), [&] {
    check_slot(slot);
    return last_kernel[slot] ? last_kernel[slot]->name : nullptr;
  });
}
