#include "conv/cuda/conv.h"

#include "conv/cuda/heuristics.h"
#include "conv/run.h"
#include "core/cuda/transpose.h"

namespace fastconv {
namespace {

const ConvRow kRows[] = {
#define FASTCONV_KERNEL(target, direction, numerics, name) \
  {Target::target, Direction::direction, Numerics::numerics, #name, &name},
#include "conv/cuda/kernels.inc"
#undef FASTCONV_KERNEL
};

const char* why_not_target(Target target, int capability) {
  if (target < Target::kSm80) return "it runs on the CPU";
  if (target == Target::kSm90a)
    return capability == 90 ? nullptr : "this GPU's compute capability is not 9.0, the only one that sm90a runs on";
  return capability >= 80 ? nullptr : "this GPU's compute capability is below 8.0";
}

/// Where activations are turned, the whole batch is: images in portions would leave a GPU idle.
Scratch scratch_of(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  return scratch_for(plan, problem, args, problem.N, 256);
}

}  // namespace

std::span<const ConvRow> cuda_conv_rows() { return kRows; }

ConvTable cuda_conv_table(int capability, bool allow_tf32) {
  return {.rows = kRows,
          .why_not_target = why_not_target,
          .expected_loss = expected_loss_cuda,
          .capability = capability,
          .allow_tf32 = allow_tf32};
}

size_t cuda_workspace(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  return scratch_of(plan, problem, args).bytes;
}

void run_cuda(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  run_in(plan, problem, args, scratch_of(plan, problem, args), args.workspace, transpose_cuda);
}

}  // namespace fastconv
