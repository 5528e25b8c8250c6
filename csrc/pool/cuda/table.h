// The declarations of the CUDA pooling kernels, one a row. Their operands lie on a GPU.
#pragma once

#include "pool/pool.h"

namespace fastconv {

#define FASTCONV_KERNEL(target, direction, numerics, name) extern const PoolKernel name;
#include "pool/cuda/kernels.inc"
#undef FASTCONV_KERNEL

}  // namespace fastconv
