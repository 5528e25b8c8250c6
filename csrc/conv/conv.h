// The convolution family on the CPU: its table, which row takes a problem, and how a row is run.
#pragma once

#include "conv/choice.h"

namespace fastconv {

#define FASTCONV_KERNEL(target, direction, numerics, name) extern const ConvKernel name;
#include "conv/kernels.inc"
#undef FASTCONV_KERNEL

/// Every row that was built, in the table's order.
std::span<const ConvRow> conv_rows();
const ConvTable& conv_table();

// The functions of choice.h on the CPU's table. There always is a row that takes a problem.
inline const ConvRow* find_conv_row(const std::string& name) { return find_conv_row(conv_table(), name); }
inline const char* why_not(const ConvRow& row, const ConvProblem& problem) {
  return why_not(conv_table(), row, problem);
}
inline const char* why_not_auto(const ConvRow& row, const ConvProblem& problem, Precision precision) {
  return why_not_auto(conv_table(), row, problem, precision);
}
inline ConvPlan plan_for(const ConvRow& row, const ConvProblem& problem) {
  return plan_for(conv_table(), row, problem);
}
inline ConvPlan choose(Direction direction, const ConvProblem& problem, Precision precision, bool must_win) {
  return choose(conv_table(), direction, problem, precision, must_win);
}

/// Bytes of the packed weight of a plan; 0 for kernels that take weights as they lie.
size_t packed_bytes(const ConvPlan& plan);
void pack(const ConvPlan& plan, const Filter& w, void* packed);

/// Runs a plan on operands laid out as `problem` says. Where `args.packed` is null the weight is packed for this call.
/// False when memory for the workspace is not to be had; nothing is written then.
bool run(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args);

/// dbias[k] = sum of dy over batch and pixels. Accumulates in float, or double for float64, in a fixed order.
void bias_grad(const ConvProblem& problem, const void* dy, void* dbias);

}  // namespace fastconv
