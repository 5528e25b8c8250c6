// The declarations of the CPU's convolution kernels, one a row.
#pragma once

#include "conv/conv.h"

namespace fastconv {

#define FASTCONV_KERNEL(target, direction, numerics, name) extern const ConvKernel name;
#include "conv/kernels.inc"
#undef FASTCONV_KERNEL

}  // namespace fastconv
