// dx = the adjoint convolution of dy by F(2x2, 3x3), float32 NHWC, stride 1: see winograd.h.

#include "conv/cpu/adjoint.h"
#include "conv/cpu/winograd.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_dgrad_winograd_f2_nhwc)) = kAdjoint<&kWinograd<2>>;

}  // namespace fastconv
