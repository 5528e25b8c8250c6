// Rows of kernels that are not in this library: Triton's, which Python registers (fastconv/_triton.py) and runs by the
// ops fastconv::_guest_forward and fastconv::_guest_wgrad. They are named, chosen and noted like the library's own.
#pragma once

#include <string>

#include "torch/run.h"

namespace fastconv::binding {

/// Null past the last guest.
const ConvRow* guest_at(int index);
bool is_guest(const ConvRow& row);

/// Why a guest does not take the problem on the device; empty where it does.
std::string why_not_guest(const ConvRow& row, const ConvProblem& problem, const Device& device);

/// Python's word on what to run on a GPU (fastconv/plan.py): `own`, this library's choice, or another plan; empty for
/// torch's kernel.
/// Its answers may change at each new `answers_generation`.
ConvPlan preferred(Direction direction, const ConvProblem& problem, const Device& device, const Settings& settings,
                   bool must_win, const ConvPlan& own);

int answers_generation();

/// fprop or dgrad of `source`, and wgrad, into `out`.
void run_guest_forward(const ConvPlan& plan, const Tensor& source, const Tensor& weight, const Tensor& bias,
                       const Extras& extras, const Tensor& out);
void run_guest_wgrad(const ConvPlan& plan, const Tensor& x, const Tensor& dy, const Tensor& out);

}  // namespace fastconv::binding
