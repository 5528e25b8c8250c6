// A chosen row on torch's tensors, and the way to torch's own kernel.
#pragma once

#include <vector>

#include "torch/problem.h"
#include "torch/select.h"

namespace fastconv::binding {

/// What an own op adds to a plain convolution; tensors may be empty, `packed` null.
struct Extras {
  Tensor scale, residual;
  Activation activation = Activation::kNone;
  const void* packed = nullptr;

  bool has_epilogue() const { return scale || residual || activation != Activation::kNone; }
};

/// The rows' view of one call: the record with the activations' layouts, and operands that lie as it says.
/// `x` and `y` are the tensors in these roles of fprop; one that is to be computed is null.
class Operands {
 public:
  Operands(const Call& call, const Tensor* x, const Tensor* y);
  const ConvProblem& problem() const { return problem_; }
  const void* x() const { return x_; }
  const void* y() const { return y_; }
  /// The tensors themselves, as they were given.
  const Tensor& x_tensor() const { return *given_[0]; }
  const Tensor& y_tensor() const { return *given_[1]; }

 private:
  const void* place(const Tensor& tensor, Layout* layout);
  const void* keep(Tensor copy);
  ConvProblem problem_;
  const void *x_ = nullptr, *y_ = nullptr;
  const Tensor* given_[2];
  Tensor copies_[2];
  int count_ = 0;
};

/// fprop or dgrad by `plan`; `input` is the operand that is not the weight. Returns the output.
Tensor run_forward(const ConvPlan& plan, const Call& call, const Operands& operands, const Tensor& weight,
                   const Tensor& bias, const Extras& extras);
/// wgrad by `plan`; the result has exactly `strides`.
Tensor run_wgrad(const ConvPlan& plan, const Call& call, const Operands& operands, const Ints& sizes,
                 const Ints& strides);
/// The sum of `grad` over all axes but the second.
Tensor run_bias_grad(const Tensor& grad, const Call& call);

/// A weight's strides if it is dense in any order of its axes, else those of a contiguous one.
Ints gradient_strides(const Shape& weight);

/// torch's own kernels on any device, past whatever is registered for aten::convolution.
Tensor native_convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& geometry);
struct Gradients {
  Tensor input, weight, bias;
};
Gradients native_backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                          const Geometry& geometry, const bool (&mask)[3]);

/// `tensor` with exactly these strides: itself, or a copy.
Tensor with_strides(Tensor tensor, const Ints& strides);

/// torch's thread pool for every kernel of this library.
void use_torch_threads();

}  // namespace fastconv::binding
