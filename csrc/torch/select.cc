#include "torch/select.h"

#include <cstddef>
#include <cstring>
#include <stdexcept>

#include "torch/guest.h"
#include "torch/rows.h"

namespace fastconv::binding {
namespace {

/// The last choices of a thread, in a table without chains: a problem's hash names its one place.
struct Entry {
  ConvProblem problem;
  int64_t key = -1;  // generation of Python's answers, compute capability, TF32, direction, precision, must_win
  ConvPlan plan;
};
constexpr size_t kEntries = 256;
thread_local Entry entries[kEntries];
thread_local int64_t choices = 0;

/// Every field counts: each has an odd factor of its own, so that the products do not wait for each other.
size_t place_of(const ConvProblem& p, int64_t key) {
  constexpr size_t kNumbers = offsetof(ConvProblem, dtype) / sizeof(int64_t);
  static_assert(kNumbers * sizeof(int64_t) + 3 <= sizeof(ConvProblem) && sizeof(ConvProblem) < (kNumbers + 2) * 8,
                "a field was added after the numbers: it has to count too");
  int64_t numbers[kNumbers];
  std::memcpy(numbers, &p, sizeof(numbers));
  uint64_t factor = 0x9E3779B97F4A7C15u;
  uint64_t hash = static_cast<uint64_t>(key * 64 + static_cast<int64_t>(p.dtype) * 4 +
                                        static_cast<int64_t>(p.x_layout) * 2 + static_cast<int64_t>(p.y_layout));
  hash *= factor;
  for (const int64_t number : numbers) {
    factor += 0xD1B54A32D192ED04u;  // even: the factor stays odd
    hash += static_cast<uint64_t>(number) * factor;
  }
  return (hash ^ (hash >> 29)) * 0xBF58476D1CE4E5B9u >> 56;
}
static_assert(kEntries == 1 << 8);

std::string refusal(const ConvRow& row, const ConvProblem& problem, const std::string& reason) {
  return "fastconv: kernel '" + std::string(row.name) + "' does not take " + encode(problem) + ": " + reason;
}

}  // namespace

std::string reasons(Direction direction, const ConvProblem& problem, const Device& device, const Settings& settings) {
  std::string text;
  const ConvTable table = table_for(device, settings.allow_tf32);
  for (const ConvRow& row : table.rows) {
    if (row.direction != direction) continue;
    const char* reason = why_not_auto(table, row, problem, settings.precision);
    text += std::string("\n  ") + row.name + ": " + (reason ? reason : "takes it");
  }
  return text;
}

ConvPlan select(Direction direction, const ConvProblem& problem, const Device& device, const Settings& settings,
                bool must_run) {
  if (const ConvRow* row = settings.kernel[static_cast<int>(direction)]) {
    if (is_guest(*row)) {
      const std::string reason = why_not_guest(*row, problem, device);
      if (!reason.empty()) throw std::runtime_error(refusal(*row, problem, reason));
      return {row, problem};
    }
    const ConvTable table = table_for(device, settings.allow_tf32);
    if (const char* reason = why_not(table, *row, problem)) throw std::runtime_error(refusal(*row, problem, reason));
    return plan_for(table, *row, problem);
  }
  const bool must_win = !must_run && !fallback_is_error();
  const int64_t gpu = device.cuda ? capability_of(device.index) * 2 + settings.allow_tf32 +
                                        (static_cast<int64_t>(answers_generation()) << 16)
                                  : 0;
  const int64_t key = gpu * 32 + static_cast<int>(direction) * 8 + static_cast<int>(settings.precision) * 2 + must_win;
  Entry& entry = entries[place_of(problem, key)];
  if (entry.key != key || entry.problem != problem) {
    const ConvPlan own =
        choose(table_for(device, settings.allow_tf32), direction, problem, settings.precision, must_win);
    ++choices;
    const ConvPlan plan = preferred(direction, problem, device, settings, must_win, own);
    entry = {problem, key, plan};
  }
  if (!entry.plan.row && !must_win)
    throw std::runtime_error("fastconv: no kernel takes " + encode(problem) + " (" + name_of(direction) +
                             "):" + reasons(direction, problem, device, settings));
  return entry.plan;
}

int64_t choices_made() { return choices; }

const ConvRow* row_named(const std::string& name, Direction direction) {
  const ConvRow* row = find_row(name);
  if (row && row->direction == direction) return row;
  std::string text = row ? "fastconv: kernel '" + name + "' computes " + name_of(row->direction) + ", not " +
                               name_of(direction) + "; choose from:"
                         : "fastconv: no kernel is named '" + name + "'; choose from:";
  for (int i = 0; const ConvRow* other = row_at(i); ++i)
    if (other->direction == direction) text += std::string("\n  ") + other->name;
  throw std::runtime_error(text);
}

}  // namespace fastconv::binding
