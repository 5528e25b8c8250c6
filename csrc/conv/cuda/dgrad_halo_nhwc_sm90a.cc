// dx[n,c,h,w] = sum over k,r,s of dy[n,k,h + pad - r * dilation, ...] * w[k,c,r,s], unit stride, each pixel of dy
// loaded once for all taps (halo_sm90a.h): float16 and bfloat16, channels_last images, one group, up to 128 input
// channels.
//
// It is the fprop of the adjoint problem. The filter is flipped and transposed in the workspace at each call.

#include "conv/cuda/adjoint.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, conv_dgrad_halo_nhwc_sm90a) = kAdjoint<Algorithm::kDirect, &conv_fprop_halo_nhwc_sm90a>;

}  // namespace fastconv
