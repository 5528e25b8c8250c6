// torch's own kernels, on any device, past whatever is registered for aten::convolution.
#pragma once

#include "torch/problem.h"

namespace fastconv::binding {

struct Gradients {
  Tensor input, weight, bias;
};

Tensor native_convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& geometry);

/// The gradients that `mask` asks for: of the input, the weight, the bias. `bias_sizes` may be null.
Gradients native_backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                          const Geometry& geometry, const bool (&mask)[3]);

/// The sum of `grad` over all axes but the second: in float32 for 16-bit numbers, in a fixed order.
Tensor sum_pixels(const Tensor& grad);

/// `tensor` with exactly these strides: itself, or a copy.
Tensor with_strides(Tensor tensor, const Ints& strides);

/// Whether torch.jit.trace records this thread's calls: then torch's kernels have to run, for they are what it sees.
bool is_tracing();
/// Whether this torch says so; without, nothing may be registered under its convolutions.
bool knows_tracing();

}  // namespace fastconv::binding
