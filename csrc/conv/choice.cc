#include "conv/choice.h"

namespace fastconv {
namespace {

/// The layouts a row is offered: the problem's own first, then channels last on both sides.
ConvProblem with_layouts(const ConvProblem& problem, Layout x, Layout y) {
  ConvProblem other = problem;
  other.x_layout = x;
  other.y_layout = y;
  return other;
}

struct Offer {
  const char* reason;
  ConvProblem problem;
};

Offer offer(const ConvTable& table, const ConvRow& row, const ConvProblem& problem) {
  if (const char* reason = table.why_not_target(row.target, table.capability)) return {reason, problem};
  if (problem.w_elements() == 0 && row.kernel->algorithm != Algorithm::kRef)
    return {"takes a weight that is not empty", problem};
  if (reach(problem) > kMostReach && row.kernel->algorithm != Algorithm::kRef)
    return {"takes strides, paddings and dilations that stay within 2^36 pixels", problem};
  const char* own_reason = row.kernel->why_not(problem);
  if (!own_reason) return {nullptr, problem};
  const ConvProblem y_only = with_layouts(problem, problem.x_layout, Layout::kNhwc);
  if (y_only != problem && !row.kernel->why_not(y_only)) return {nullptr, y_only};
  const ConvProblem both = with_layouts(problem, Layout::kNhwc, Layout::kNhwc);
  if (both != problem && !row.kernel->why_not(both)) return {nullptr, both};
  return {own_reason, problem};
}

/// Winograd's bound grows with the root of the depth; beyond this depth it leaves the tolerance of Precision::kHigh
/// (docs/numerics.md).
constexpr int64_t kHighDepth = 16384;

const char* too_inexact(const ConvTable& table, Numerics numerics, const ConvProblem& p, Precision precision) {
  if (numerics == Numerics::kExact) return nullptr;
  if (numerics == Numerics::kTF32) {
    if (precision == Precision::kExact) return "precision is 'exact', which takes no TF32";
    return table.allow_tf32 ? nullptr : "torch's switch for convolutions in TF32 is off";
  }
  if (precision == Precision::kFast) return nullptr;
  if (precision == Precision::kExact) return "precision is 'exact', which takes no Winograd";
  const int64_t depth = (p.C_per_group() > p.K_per_group() ? p.C_per_group() : p.K_per_group()) * p.R * p.S;
  return depth > kHighDepth ? "the error bound at this depth is outside precision 'high'" : nullptr;
}

}  // namespace

const ConvRow* find_conv_row(const ConvTable& table, const std::string& name) {
  for (const ConvRow& row : table.rows)
    if (name == row.name) return &row;
  return nullptr;
}

const char* why_not(const ConvTable& table, const ConvRow& row, const ConvProblem& problem) {
  return offer(table, row, problem).reason;
}

const char* why_not_auto(const ConvTable& table, const ConvRow& row, const ConvProblem& problem, Precision precision) {
  if (const char* reason = why_not(table, row, problem)) return reason;
  if (const char* reason = too_inexact(table, row.numerics, problem, precision)) return reason;
  return table.expected_loss(row, problem);
}

ConvPlan plan_for(const ConvTable& table, const ConvRow& row, const ConvProblem& problem) {
  return {&row, offer(table, row, problem).problem};
}

ConvPlan choose(const ConvTable& table, Direction direction, const ConvProblem& problem, Precision precision,
                bool must_win) {
  const ConvRow* first = nullptr;
  for (const ConvRow& row : table.rows) {
    if (row.direction != direction || why_not(table, row, problem)) continue;
    if (too_inexact(table, row.numerics, problem, precision)) continue;
    if (!table.expected_loss(row, problem)) return plan_for(table, row, problem);
    if (!first) first = &row;
  }
  if (must_win || !first) return {};
  return plan_for(table, *first, problem);
}

}  // namespace fastconv
