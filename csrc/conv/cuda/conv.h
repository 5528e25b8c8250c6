// The CUDA rows of the convolution family: their table, and how a row is run. Their operands lie on a GPU; the choice
// is choice.h's.
#pragma once

#include "conv/choice.h"

namespace fastconv {

#define FASTCONV_KERNEL(target, direction, numerics, name) extern const ConvKernel name;
#include "conv/cuda/kernels.inc"
#undef FASTCONV_KERNEL

/// Every CUDA row that was built, in the table's order.
std::span<const ConvRow> cuda_conv_rows();

/// The rows for a GPU of the compute capability 10 * major + minor. sm80 rows run from 8.0 on, sm90a rows on 9.0 alone.
/// TF32 rows are chosen only where `allow_tf32`.
ConvTable cuda_conv_table(int capability, bool allow_tf32);

/// Bytes of `args.workspace` that `run_cuda` needs, aligned to 256; of `args`, whether there is a residual counts.
size_t cuda_workspace(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args);

/// Runs a plan on operands laid out as `problem` says, on `args.stream`, whose device is the current one; neither
/// allocates nor waits. Throws std::runtime_error where CUDA refuses a launch.
void run_cuda(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args);

}  // namespace fastconv
