#include "torch/select.h"

namespace fastconv::binding {
namespace {

thread_local int64_t choices = 0;

}  // namespace

int64_t choices_made() { return choices; }
void count_choice() { ++choices; }

void refuse_kernel(const char* kernel, const std::string& problem, const std::string& reason) {
  throw std::runtime_error("fastconv: kernel '" + std::string(kernel) + "' does not take " + problem + ": " + reason);
}

int64_t choice_key(Direction direction, const Device& device, const Settings& settings, bool must_win) {
  const int64_t gpu = device.cuda ? capability_of(device.index) * 2 + settings.allow_tf32 +
                                        (static_cast<int64_t>(answers_generation()) << 16)
                                  : 0;
  return gpu * 32 + static_cast<int>(direction) * 8 + static_cast<int>(settings.precision) * 2 + must_win;
}

const RowBase* row_named(const std::string& name, FamilyId family, Direction direction) {
  const RowBase* row = find_row(name);
  if (row && row->slot() == slot_of(family, direction)) return row;
  std::string text = row ? "fastconv: kernel '" + name + "' computes " + name_of(row->direction) + " of " +
                               name_of(row->family) + ", not " + name_of(direction) + " of " + name_of(family) +
                               "; choose from:"
                         : "fastconv: no kernel is named '" + name + "'; choose from:";
  for (int i = 0; const RowBase* other = row_at(i); ++i)
    if (other->slot() == slot_of(family, direction)) text += std::string("\n  ") + other->name;
  throw std::runtime_error(text);
}

}  // namespace fastconv::binding
