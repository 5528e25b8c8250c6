// The convolution family: its table, which row takes a problem, and how a row is run.
#pragma once

#include <span>
#include <string>

#include "core/kernel.h"

namespace fastconv {

#define FASTCONV_KERNEL(target, direction, numerics, name) extern const ConvKernel name;
#include "conv/kernels.inc"
#undef FASTCONV_KERNEL

/// Every row that was built, in the table's order.
std::span<const ConvRow> conv_rows();
const ConvRow* find_conv_row(const std::string& name);

/// How far the choice may go from the plain sums: kExact takes no Winograd; kHigh takes it where its error bound is
/// inside the documented tolerance; kFast takes it wherever it is fastest.
enum class Precision : int8_t { kExact, kHigh, kFast };

/// A row, and the problem as it will see it: where a row wants other layouts, the run transposes.
struct ConvPlan {
  const ConvRow* row = nullptr;
  ConvProblem problem;
};

/// Null when the row takes the problem, directly or after a transposition; else its reason in words.
const char* why_not(const ConvRow& row, const ConvProblem& problem);
/// Null when `auto` would take the row for the problem; else its reason in words, refusal or expected loss.
const char* why_not_auto(const ConvRow& row, const ConvProblem& problem, Precision precision);

/// A plan for a row that has no reason against the problem.
ConvPlan plan_for(const ConvRow& row, const ConvProblem& problem);

/// The first row that `auto` takes. With `must_win`, the plan is empty where no row is known to beat torch's kernel;
/// without, the first row that takes the problem serves: there always is one.
ConvPlan choose(Direction direction, const ConvProblem& problem, Precision precision, bool must_win);

/// Bytes of the packed weight of a plan; 0 for kernels that take weights as they lie.
size_t packed_bytes(const ConvPlan& plan);
void pack(const ConvPlan& plan, const Filter& w, void* packed);

/// Runs a plan on operands laid out as `problem` says. Where `args.packed` is null the weight is packed for this call.
/// False when memory for the workspace is not to be had; nothing is written then.
bool run(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args);

/// dbias[k] = sum of dy over batch and pixels. Accumulates in float, or double for float64, in a fixed order.
void bias_grad(const ConvProblem& problem, const void* dy, void* dbias);

}  // namespace fastconv
