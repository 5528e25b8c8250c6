// dx = the adjoint convolution of dy by F(2x2, 3x3), float32 NHWC, stride 1, any padding and dilation: see
// winograd_f2.h.

#include "conv/cuda/winograd_f2.h"

namespace fastconv {

FASTCONV_DEFINE(conv_dgrad_winograd_f2_nhwc_sm80) = {.algorithm = Algorithm::kWinogradF2,
                                                     .why_not = Adjoint<WinogradF2>::why_not,
                                                     .run = Adjoint<WinogradF2>::run,
                                                     .workspace = Adjoint<WinogradF2>::workspace};

}  // namespace fastconv
