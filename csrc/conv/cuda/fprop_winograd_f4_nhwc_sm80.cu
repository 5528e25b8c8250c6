// y = conv(x, w) by F(4x4, 3x3), float32 NHWC, stride 1, any padding and dilation: see winograd_f4.h.

#include "conv/cuda/winograd_f4.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, conv_fprop_winograd_f4_nhwc_sm80) = {.algorithm = Algorithm::kWinogradF4,
                                                           .why_not = WinogradF4::why_not,
                                                           .run = WinogradF4::run,
                                                           .workspace = WinogradF4::workspace};

}  // namespace fastconv
