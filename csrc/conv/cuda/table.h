// The declarations of the CUDA convolution kernels, one a row. Their operands lie on a GPU.
#pragma once

#include "conv/conv.h"

namespace fastconv {

#define FASTCONV_KERNEL(target, direction, numerics, name) extern const ConvKernel name;
#include "conv/cuda/kernels.inc"
#undef FASTCONV_KERNEL

}  // namespace fastconv
