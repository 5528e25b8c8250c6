// dx[n,h,w,c] = sum over r,s,k of dy[n, h + pad - r * dilation, ..., k] * w[k,c,r,s], any 2-d problem of unit stride.
//
// How the work is cut: direct.h.

#include "conv/cpu/adjoint.h"
#include "conv/cpu/direct.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_dgrad_direct_nhwc)) = kAdjoint<&kDirectNhwc>;

}  // namespace fastconv
