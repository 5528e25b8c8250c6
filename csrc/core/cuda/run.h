// A plan run on a GPU, by the host's compiler: the kernels' own code is behind their rows.
#pragma once

#include "core/cuda/transpose.h"
#include "core/run.h"

namespace fastconv {

/// Null where a GPU of the compute capability (10 * major + minor) runs rows of the target.
inline const char* why_not_on_gpu(const Target& target, int capability) {
  if (target.device != DeviceKind::kCuda) return "it runs on the CPU";
  if (target.level == target::sm90a.level)
    return capability == 90 ? nullptr : "this GPU's compute capability is not 9.0, the only one that sm90a runs on";
  return capability >= target.level ? nullptr : "this GPU's compute capability is below 8.0";
}

/// Where activations are transposed, the whole batch is: images in portions would leave a GPU idle.
template <class F>
Scratch gpu_scratch(const Plan<F>& plan, const typename F::Problem& problem, const typename F::Args& given) {
  const auto squeezed = F::squeezed(problem);
  return scratch_for(plan, squeezed, F::squeezed(given, problem), squeezed.N, 256);
}

/// Bytes of `args.workspace` that `run_on_gpu` needs, aligned to 256; of `args`, whether there is a residual counts.
template <class F>
size_t gpu_workspace(const Plan<F>& plan, const typename F::Problem& problem, const typename F::Args& args) {
  return gpu_scratch(plan, problem, args).bytes;
}

/// Runs a plan on operands laid out as `problem` says, on `args.stream`, whose device is the current one; neither
/// allocates nor waits. Throws std::runtime_error where CUDA refuses a launch.
template <class F>
void run_on_gpu(const Plan<F>& plan, const typename F::Problem& problem, const typename F::Args& args) {
  run_in(plan, F::squeezed(problem), F::squeezed(args, problem), gpu_scratch(plan, problem, args), args.workspace,
         transpose_cuda);
}

}  // namespace fastconv
