#include "conv/cuda/conv.h"

namespace fastconv {
namespace {

const ConvRow kRows[] = {
#define FASTCONV_KERNEL(target, direction, numerics, name) \
  {Target::target, Direction::direction, Numerics::numerics, #name, &name},
#include "conv/cuda/kernels.inc"
#undef FASTCONV_KERNEL
};

}  // namespace

std::span<const ConvRow> cuda_conv_rows() { return kRows; }

}  // namespace fastconv
