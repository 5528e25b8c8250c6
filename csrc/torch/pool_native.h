// torch's own pooling kernels of either device, without the dispatcher.
#pragma once

#include "torch/pool_call.h"

namespace fastconv::binding {

/// `index` of a maximum alone.
struct PoolResult {
  Tensor out, index;
};

PoolResult native_forward(const Tensor& input, Pooling& given);
/// `indices` are of int64, or null for a mean.
Tensor native_backward(const Tensor& grad, const Tensor& input, const Tensor* indices, Pooling& given);

}  // namespace fastconv::binding
