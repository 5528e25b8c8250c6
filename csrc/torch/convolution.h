// A convolution and its gradients on torch's tensors: aten's meaning, our kernels where they take it, else torch's.
#pragma once

#include "torch/run.h"

namespace fastconv::binding {

Tensor convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& geometry,
                   const Settings& settings);

/// The gradients that `mask` asks for: of the input, the weight, the bias. `bias_sizes` may be null.
Gradients backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                   const Geometry& geometry, const bool (&mask)[3], const Settings& settings);

}  // namespace fastconv::binding
