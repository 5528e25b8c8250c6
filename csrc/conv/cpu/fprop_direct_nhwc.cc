// y[n,p,q,k] = sum over r,s,c of x[n, p * stride - pad + r * dilation, ..., c] * w[k,c,r,s], any 2-d problem in NHWC.
//
// How the work is cut: direct.h.

#include "conv/cpu/direct.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_fprop_direct_nhwc)) = kDirectNhwc;

}  // namespace fastconv
