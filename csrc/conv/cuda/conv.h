// The CUDA rows of the convolution family. Their operands lie on a GPU; elsewhere they are as the CPU's rows (conv.h).
#pragma once

#include <span>

#include "core/kernel.h"

namespace fastconv {

#define FASTCONV_KERNEL(target, direction, numerics, name) extern const ConvKernel name;
#include "conv/cuda/kernels.inc"
#undef FASTCONV_KERNEL

/// Every CUDA row that was built, in the table's order.
std::span<const ConvRow> cuda_conv_rows();

}  // namespace fastconv
