// dx[n,c,h,w] = sum over k,r,s of dy[n,k,h + pad - r * dilation, ...] * w[k,c,r,s], unit stride, as an implicit GEMM
// with TMA and wgmma (igemm_sm90a.h): float16 and bfloat16, channels_last images, one group, channels in multiples
// of 8.
//
// It is the fprop of the adjoint problem. The filter is flipped and transposed in the workspace at each call.
//
// Floor: dy, w and dx once, w twice more where it is transposed; 2 * macs FLOPs at wgmma's rate. Tiles, registers and
// shared memory are fprop's.

#include "conv/cuda/adjoint.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, conv_dgrad_igemm_nhwc_sm90a) = kAdjoint<Algorithm::kIgemm, &conv_fprop_igemm_nhwc_sm90a>;

}  // namespace fastconv
