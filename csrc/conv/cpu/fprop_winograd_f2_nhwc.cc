// y = conv(x, w) by F(2x2, 3x3), float32 NHWC, stride 1, any padding, dilation and groups: see winograd.h.

#include "conv/cpu/winograd.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_fprop_winograd_f2_nhwc)) = kWinograd<2>;

}  // namespace fastconv
