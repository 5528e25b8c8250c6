// Which row of a table takes a problem: one rule for the rows of every device.
#pragma once

#include <span>
#include <string>

#include "core/kernel.h"

namespace fastconv {

/// How far the choice may go from the plain sums: kExact takes no Winograd and no TF32; kHigh takes Winograd where its
/// error bound is inside the documented tolerance; kFast takes it wherever it is fastest.
enum class Precision : int8_t { kExact, kHigh, kFast };

/// A row, and the problem as it will see it: where a row wants other layouts, the run transposes.
struct ConvPlan {
  const ConvRow* row = nullptr;
  ConvProblem problem;
};

/// The rows of one kind of device, and what is known of the device that is to run them.
struct ConvTable {
  std::span<const ConvRow> rows;
  /// Null where the device runs rows of the target, else the reason in words.
  const char* (*why_not_target)(Target target, int capability);
  /// Null where the row is expected to beat torch's own kernel and every row below it; else the cause.
  const char* (*expected_loss)(const ConvRow& row, const ConvProblem& problem);
  int capability = 0;       // of a GPU: ten times its major number plus the minor
  bool allow_tf32 = false;  // whether float32 may be multiplied with the precision of TF32
};

const ConvRow* find_conv_row(const ConvTable& table, const std::string& name);

/// Null when the row takes the problem, directly or after a transposition; else its reason in words.
const char* why_not(const ConvTable& table, const ConvRow& row, const ConvProblem& problem);
/// Null when `auto` would take the row for the problem; else its reason in words, refusal or expected loss.
const char* why_not_auto(const ConvTable& table, const ConvRow& row, const ConvProblem& problem, Precision precision);

/// A plan for a row that has no reason against the problem.
ConvPlan plan_for(const ConvTable& table, const ConvRow& row, const ConvProblem& problem);

/// The first row that `auto` takes. With `must_win`, the plan is empty where no row is known to beat torch's kernel;
/// without, the first row that takes the problem serves; it is empty where the device runs no row at all.
ConvPlan choose(const ConvTable& table, Direction direction, const ConvProblem& problem, Precision precision,
                bool must_win);

}  // namespace fastconv
