// dx[n,h,w,c] = sum over k of dy[n,h,w,k] * w[k,c]: the dgrad of a 1x1 convolution of unit stride is a matrix product.
//
// How the work is cut: pointwise.h.

#include "conv/cpu/adjoint.h"
#include "conv/cpu/pointwise.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_dgrad_pointwise_nhwc)) = kAdjoint<&kPointwise>;

}  // namespace fastconv
