// From the arguments of a pooling, as aten gives them, to the problem record and the memory format of its results.
#pragma once

#include "pool/pool.h"
#include "torch/operand.h"

namespace fastconv::binding {

/// The arguments after the tensors, as they were given; `output` is that of adaptive windows, which have no others.
struct Pooling {
  PoolMode mode = PoolMode::kAvg;
  bool adaptive = false;
  int64_t axes = 2;
  Ints window, stride, padding, dilation, output;
  bool ceil_mode = false, count_padding = true, has_divisor = false;
  int64_t divisor = 0;
  IndexType index = IndexType::kInt64;
  bool indexed = true;  // whether a maximum's indices are asked for

  /// avg: window, stride, padding, ceil mode, whether padding counts, divisor; max: dilation before ceil mode and no
  /// more; adaptive: the output.
  void read(Arguments& next);
  int64_t* divisor_or_null() { return has_divisor ? &divisor : nullptr; }
};

/// A call, understood: the layouts are left to the operands.
struct PoolCall {
  PoolProblem problem;
  Ints x_sizes, y_sizes;
  bool channels_last = false;  // torch's memory format of every result
};

/// False for what is torch's to compute or to refuse. `input` need not have memory: its sizes, strides and dtype count.
bool read_call(const Shape& input, const Pooling& given, PoolCall* call);

}  // namespace fastconv::binding
