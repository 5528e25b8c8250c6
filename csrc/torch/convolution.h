// A convolution and its gradients on torch's tensors. The one way in which a call is served: aten's arguments become a
// problem, a row is chosen by how the operands lie, they are copied only for a row that runs, and torch's kernel serves
// where no row is known to win or memory is not to be had.
#pragma once

#include "torch/native.h"
#include "torch/run.h"

namespace fastconv::binding {

/// fprop, or dgrad for a transposed convolution. Throws where an epilogue is asked for a call that no row can compute.
Tensor convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& geometry,
                   const Extras& extras, const Settings& settings);

/// The gradients that `mask` asks for: of the input, the weight, the bias. `bias_sizes` may be null.
Gradients backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                   const Geometry& geometry, const bool (&mask)[3], const Settings& settings);

// The steps, for ops that know their direction; nothing where torch's kernel is to serve.

/// fprop or dgrad, as `call.direction` says.
Tensor forward(const Call& call, Operand& source, const Tensor& weight, const Tensor& bias, const Extras& extras,
               const Settings& settings);
Tensor weight_gradient(const Call& call, Operand& x, Operand& dy, const Ints& sizes, const Ints& strides,
                       const Settings& settings);

/// Throws unless scale and residual fit the call's output.
void check_epilogue(const Extras& extras, const Call& call);

}  // namespace fastconv::binding
