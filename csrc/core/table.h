// Which row of a table takes a problem: one rule for the rows of every family and device.
//
// A family's record F brings, beside its types:
//   kId                           its number
//   squeezed(problem)             the same work with axes that carry nothing merged or moved inward; what rows see
//   forms(problem)                what a row is asked in turn: the problem as it lies, then with layouts that cost
//                                 transpositions
//   why_only_reference(problem)   null, or why no row but the reference is asked
//   too_inexact(numerics, ...)    null, or why the row's sums are not exact enough
#pragma once

#include <span>
#include <string>

#include "core/row.h"

namespace fastconv {

/// A row, and the problem as it will see it: where a row wants other layouts, the run transposes.
template <class F>
struct Plan {
  const Row<F>* row = nullptr;
  typename F::Problem problem;
};

/// The rows of one kind of device, and what is known of the device that is to run them.
template <class F>
struct Table {
  std::span<const Row<F>> rows;
  /// Null where the device runs rows of the target, else the reason in words.
  const char* (*why_not_target)(const Target& target, int capability);
  /// Null where the row is expected to beat torch's own kernel and every row below it; else the cause. `copied` where
  /// an operand is transposed for it.
  const char* (*expected_loss)(const Row<F>& row, const typename F::Problem& problem, bool copied);
  /// Whether torch's own kernel of this device is known to give wrong numbers; may be null.
  bool (*torch_is_wrong)(const typename F::Problem& problem) = nullptr;
  int capability = 0;       // of a GPU: ten times its major number plus the minor
  bool allow_tf32 = false;  // whether float32 may be multiplied with the precision of TF32
};

template <class F>
const Row<F>* find_row(const Table<F>& table, const std::string& name) {
  for (const Row<F>& row : table.rows)
    if (name == row.name) return &row;
  return nullptr;
}

/// Up to three problems, in the order in which a row is asked.
template <class Problem>
struct Forms {
  Problem all[3];
  int count = 0;
  void add(const Problem& problem) {
    if (count == 0 || problem != all[count - 1]) all[count++] = problem;
  }
};

/// The problem as it lies, then with channels last on the output's side, then on both.
template <class Problem>
Forms<Problem> channels_last_forms(Problem p) {
  Forms<Problem> forms;
  forms.add(p);
  p.y_layout = Layout::kNhwc;
  forms.add(p);
  p.x_layout = Layout::kNhwc;
  forms.add(p);
  return forms;
}

/// A row's reason against a problem, null where there is none, and the problem as the row will see it: `copied` where
/// an operand is transposed for it.
template <class F>
struct Answer {
  const char* reason;
  typename F::Problem seen;
  bool copied = false;
};

template <class F>
Answer<F> ask(const Table<F>& table, const Row<F>& row, const typename F::Problem& given) {
  if (const char* reason = table.why_not_target(row.target, table.capability)) return {reason, given};
  if (row.kernel->algorithm != Algorithm::kRef)
    if (const char* reason = F::why_only_reference(given)) return {reason, given};
  const auto forms = F::forms(F::squeezed(given));
  const char* first = nullptr;
  for (int i = 0; i < forms.count; ++i) {
    const char* reason = row.kernel->why_not(forms.all[i]);
    if (!reason) return {nullptr, forms.all[i], i > 0};
    if (i == 0) first = reason;
  }
  return {first, given};
}

/// Null when the row takes the problem, directly or after a transposition; else its reason in words.
/// (Not `why_not`: nvcc would take it for the functions of that name that kernel files keep to themselves.)
template <class F>
const char* why_not_row(const Table<F>& table, const Row<F>& row, const typename F::Problem& problem) {
  return ask(table, row, problem).reason;
}

/// Null when `auto` would take the row for the problem; else its reason in words, refusal or expected loss.
template <class F>
const char* why_not_auto(const Table<F>& table, const Row<F>& row, const typename F::Problem& problem,
                         Precision precision) {
  const Answer<F> answer = ask(table, row, problem);
  if (answer.reason) return answer.reason;
  if (const char* reason = F::too_inexact(row.numerics, problem, precision, table.allow_tf32)) return reason;
  return table.expected_loss(row, answer.seen, answer.copied);
}

/// A plan for a row that has no reason against the problem.
template <class F>
Plan<F> plan_for(const Table<F>& table, const Row<F>& row, const typename F::Problem& problem) {
  return {&row, ask(table, row, problem).seen};
}

/// The first row that `auto` takes. With `must_win`, the plan is empty where no row is known to beat torch's kernel,
/// and torch's is not known to be wrong; without, the first row that takes the problem serves; it is empty where the
/// device runs no row.
template <class F>
Plan<F> choose(const Table<F>& table, Direction direction, const typename F::Problem& problem, Precision precision,
               bool must_win) {
  Plan<F> first;
  for (const Row<F>& row : table.rows) {
    if (row.direction != direction) continue;
    const Answer<F> answer = ask(table, row, problem);
    if (answer.reason || F::too_inexact(row.numerics, problem, precision, table.allow_tf32)) continue;
    if (!table.expected_loss(row, answer.seen, answer.copied)) return {&row, answer.seen};
    if (!first.row) first = {&row, answer.seen};
  }
  const bool may_hand_over = must_win && !(table.torch_is_wrong && table.torch_is_wrong(problem));
  return may_hand_over ? Plan<F>() : first;
}

}  // namespace fastconv
