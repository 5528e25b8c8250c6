// dw[k,c,t,r,s] = sum over n,z,p,q of dy[n,k,z,p,q] * x[n,c,d,h,w], d = z * stride - pad + t * dilation and so on, as
// an implicit GEMM on tensor cores (igemm_wgrad.h): float32 multiplied as TF32, channels_last, channels a group in
// multiples of 4, any stride, padding, dilation and groups, one to three axes; a weight of any strides.
//
// wgrad_igemm_nhwc_sm80.cu in floats: both operands are transposed by 4-byte loads, as ldmatrix turns 16 bits only.

#include "conv/cuda/igemm_wgrad.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  run_igemm_wgrad<float>("conv_wgrad_igemm_tf32_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_igemm_tf32_nhwc_sm80) = {
    .algorithm = Algorithm::kIgemm, .why_not = igemm_tf32_why_not, .run = run, .workspace = igemm_wgrad_bytes};

}  // namespace fastconv
