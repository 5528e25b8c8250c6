#include "torch/pool_external.h"

#include "torch/state.h"

namespace fastconv::binding {

void run_external_pool(const Plan<Pool>& plan, const Tensor& source, const Tensor* index, const Tensor& out) {
  note_kernel(FamilyId::kPool, plan.row->direction, plan.row);
  static const Tensor none;
  StableIValue stack[5] = {lend(source), lend_optional(index ? *index : none), lend(out), result(encode(plan.problem)),
                           result(std::string(plan.row->name))};
  check(torch_call_dispatcher("fastconv::_external_pool", "", stack, TORCH_ABI_VERSION));
}

}  // namespace fastconv::binding
