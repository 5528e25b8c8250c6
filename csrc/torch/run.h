// A chosen row on torch's tensors.
#pragma once

#include "torch/operand.h"
#include "torch/select.h"

namespace fastconv::binding {

/// A layer's cache of packed weights (torch/pack.h); none without an id.
struct CacheRef {
  int64_t id = -1;
  int64_t version = -1;  // of a weight that, as the caller says, changes by its version at most; else negative
  bool frozen() const { return version >= 0; }
};

/// What an own op adds to a plain convolution; tensors may be empty.
struct Extras {
  Tensor scale, residual;
  Activation activation = Activation::kNone;
  Tensor packed;
  CacheRef cache;
  bool throws = false;  // for arguments that are torch's to compute or to refuse, which the caller hands over

  bool has_epilogue() const { return scale || residual || activation != Activation::kNone; }
};

/// fprop or dgrad by `plan`; `source` is the operand that is not the weight, `packed` the weight as the row reads it,
/// or null. Returns the output, or nothing where memory for the workspace is not to be had.
Tensor run_forward(const ConvPlan& plan, const ConvProblem& problem, const Call& call, Operand& source,
                   const Tensor& weight, const Tensor& bias, const Extras& extras, const void* packed);

/// wgrad by `plan`; the result has exactly `strides`. Nothing where memory is not to be had.
Tensor run_wgrad(const ConvPlan& plan, const ConvProblem& problem, const Call& call, Operand& x, Operand& dy,
                 const Ints& sizes, const Ints& strides);

/// The sum of `grad` over all axes but the second.
Tensor run_bias_grad(Operand& grad, DType dtype);

/// Whether the tensor is dense in any order of its axes.
bool is_dense(const Shape& shape);
/// A weight's strides if it is dense, else those of a contiguous one.
Ints gradient_strides(const Shape& weight);

/// torch's thread pool for every kernel of this library.
void use_torch_threads();

}  // namespace fastconv::binding
