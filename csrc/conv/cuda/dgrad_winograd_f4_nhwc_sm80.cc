// dx = the adjoint convolution of dy by F(4x4, 3x3), float32 NHWC, stride 1, any padding and dilation: see
// winograd_f4.h.

#include "conv/cuda/adjoint.h"

namespace fastconv {

FASTCONV_DEFINE(Conv,
                conv_dgrad_winograd_f4_nhwc_sm80) = kAdjoint<Algorithm::kWinogradF4, &conv_fprop_winograd_f4_nhwc_sm80>;

}  // namespace fastconv
