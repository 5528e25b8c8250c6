// y = conv(x, w) by F(4x4, 3x3), float32 NHWC, stride 1, any padding, dilation and groups: see winograd.h.

#include "conv/cpu/winograd.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_fprop_winograd_f4_nhwc)) = kWinograd<4>;

}  // namespace fastconv
