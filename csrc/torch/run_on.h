// A plan of any family on the device of its operands.
#pragma once

#include "core/cpu/run.h"
#include "core/cuda/run.h"
#include "torch/rows.h"
#include "torch/state.h"
#include "torch/tensor.h"

namespace fastconv::binding {

/// On torch's current stream, with a workspace that torch's allocator gives out again in the order of that stream.
template <class F>
bool run_on_stream(const Plan<F>& plan, const typename F::Problem& problem, typename F::Args args,
                   const Device& device) {
  if constexpr (kHasCuda) {
    const OnDevice scope(device);
    const int64_t bytes = static_cast<int64_t>(gpu_workspace(plan, problem, args)), one = 1;
    Tensor workspace;
    if (bytes) {
      if (!try_empty_strided(1, &bytes, &one, aoti_torch_dtype_uint8(), device, &workspace)) return false;
      args.workspace = workspace.data();
    }
    args.stream = current_stream(device.index);
    run_on_gpu(plan, problem, args);
  }
  return true;
}

/// False where memory for the workspace is not to be had.
template <class F>
bool run_on(const Device& device, const Plan<F>& plan, const typename F::Problem& problem,
            const typename F::Args& args) {
  note_kernel(F::kId, plan.row->direction, plan.row);
  return device.cuda ? run_on_stream(plan, problem, args, device) : run(plan, problem, args);
}

}  // namespace fastconv::binding
