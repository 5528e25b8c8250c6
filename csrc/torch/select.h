// Which row takes a call, asked once per problem and thread.
#pragma once

#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>

#include "torch/external.h"
#include "torch/rows.h"
#include "torch/state.h"

namespace fastconv::binding {

/// How often this thread has asked the tables: for tests.
int64_t choices_made();
void count_choice();

/// The row of that name, of any device; throws with the nearest names where there is none.
const RowBase* row_named(const std::string& name, FamilyId family, Direction direction);

[[noreturn]] void refuse_kernel(const char* kernel, const std::string& problem, const std::string& reason);

/// What a choice depends on beside the problem, in one number.
int64_t choice_key(Direction direction, const Device& device, const Settings& settings, bool must_win);

/// The last choices of a thread, in a table without chains: a problem's hash names its one place.
template <class F>
struct Choices {
  struct Entry {
    typename F::Problem problem;
    int64_t key = -1;
    Plan<F> plan;
  };
  static constexpr size_t kEntries = 256;
  Entry entries[kEntries];
};

/// Every field counts: each has an odd factor of its own, so that the products do not wait for each other. A problem's
/// record is numbers of 64 bits, then `dtype` and what is a byte.
template <class Problem>
size_t place_of(const Problem& p, int64_t key) {
  constexpr size_t kNumbers = offsetof(Problem, dtype) / sizeof(int64_t);
  static_assert(sizeof(Problem) == (kNumbers + 1) * sizeof(int64_t), "bytes come last, eight of them at most");
  int64_t numbers[kNumbers];
  std::memcpy(numbers, &p, sizeof(numbers));
  uint64_t factor = 0x9E3779B97F4A7C15u;
  uint64_t hash = static_cast<uint64_t>(key * 4096 + p.bytes()) * factor;
  for (const int64_t number : numbers) {
    factor += 0xD1B54A32D192ED04u;  // even: the factor stays odd
    hash += static_cast<uint64_t>(number) * factor;
  }
  return (hash ^ (hash >> 29)) * 0xBF58476D1CE4E5B9u >> 56;
}

/// Each of the device's rows of the direction, a line each, with the reason why `auto` leaves it out.
template <class F>
std::string reasons(Direction direction, const typename F::Problem& problem, const Device& device,
                    const Settings& settings) {
  std::string text;
  const Table<F> table = table_for<F>(device, settings.allow_tf32);
  for (const Row<F>& row : table.rows) {
    if (row.direction != direction) continue;
    const char* reason = why_not_auto(table, row, problem, settings.precision);
    text += std::string("\n  ") + row.name + ": " + (reason ? reason : "takes it");
  }
  return text;
}

/// A plan for a row that has to take the problem; throws where it does not.
template <class F>
Plan<F> plan_on(const RowBase& base, const typename F::Problem& problem, const Device& device,
                const Settings& settings) {
  const auto& row = static_cast<const Row<F>&>(base);
  if (is_external(row)) {
    const std::string reason = why_not_external(row, encode(problem), device);
    if (!reason.empty()) refuse_kernel(row.name, encode(problem), reason);
    return {&row, problem};
  }
  const Table<F> table = table_for<F>(device, settings.allow_tf32);
  if (const char* reason = why_not_row(table, row, problem)) refuse_kernel(row.name, encode(problem), reason);
  return plan_for(table, row, problem);
}

/// The table's choice, or on a GPU what Python's measurements and rows make of it.
template <class F>
Plan<F> fresh_choice(Direction direction, const typename F::Problem& problem, const Device& device,
                     const Settings& settings, bool must_win) {
  count_choice();
  const Plan<F> own =
      choose(table_for<F>(device, settings.allow_tf32), direction, problem, settings.precision, must_win);
  if (!device.cuda) return own;
  const Preferred other = preferred(slot_of(F::kId, direction), encode(problem), settings, must_win, own.row);
  if (other.row == own.row) return own;
  if (!other.row) return {};
  return is_external(*other.row) ? Plan<F>{static_cast<const Row<F>*>(other.row), problem}
                                 : plan_on<F>(*other.row, problem, device, settings);
}

/// The row named by hand, else the first that `auto` takes; empty where the call is torch's, because no row is known
/// to win and none `must_run`. Throws where the named kernel refuses.
///
/// Under FASTCONV_FALLBACK=error every valid problem must run: the slowest row that takes it serves.
template <class F>
Plan<F> select(Direction direction, const typename F::Problem& problem, const Device& device, const Settings& settings,
               bool must_run = false) {
  if (const RowBase* row = settings.kernel[slot_of(F::kId, direction)])
    return plan_on<F>(*row, problem, device, settings);
  const bool must_win = !must_run && !fallback_is_error();
  const int64_t key = choice_key(direction, device, settings, must_win);
  static thread_local Choices<F> choices;
  auto& entry = choices.entries[place_of(problem, key)];
  if (entry.key != key || entry.problem != problem)
    entry = {problem, key, fresh_choice<F>(direction, problem, device, settings, must_win)};
  if (!entry.plan.row && !must_win)
    throw std::runtime_error("fastconv: no kernel takes " + encode(problem) + " (" + name_of(direction) +
                             "):" + reasons<F>(direction, problem, device, settings));
  return entry.plan;
}

/// The reference row, which wants no workspace, where nothing but a row of ours can compute the call.
template <class F>
Plan<F> reference_for(Direction direction, const typename F::Problem& problem, const Device& device,
                      const Settings& settings) {
  const Table<F> table = table_for<F>(device, settings.allow_tf32);
  for (size_t i = table.rows.size(); i-- > 0;) {
    const Row<F>& row = table.rows[i];
    if (row.direction == direction && !why_not_row(table, row, problem)) return plan_for(table, row, problem);
  }
  return {};
}

/// Throws where a row that ran out of memory was asked for by name, or must not be replaced by torch's kernel.
template <class F>
void check_may_hand_over(const Plan<F>& plan, const typename F::Problem& problem, const Settings& settings) {
  if (fallback_is_error() || settings.kernel[plan.row->slot()])
    throw std::runtime_error("fastconv: no memory for the workspace of '" + std::string(plan.row->name) + "' on " +
                             encode(problem));
}

}  // namespace fastconv::binding
