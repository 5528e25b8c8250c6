// y = conv(x, w) by F(2x2, 3x3), float32 NHWC, stride 1, any padding and dilation: see winograd_f2.h.

#include "conv/cuda/winograd_f2.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, conv_fprop_winograd_f2_nhwc_sm80) = {.algorithm = Algorithm::kWinogradF2,
                                                           .why_not = WinogradF2::why_not,
                                                           .run = WinogradF2::run,
                                                           .workspace = WinogradF2::workspace};

}  // namespace fastconv
