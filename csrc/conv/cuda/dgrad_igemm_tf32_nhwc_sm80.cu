// dx[n,c,d,h,w] = sum over k,t,r,s of dy[n,k,z,p,q] * w[k,c,t,r,s] over the z, p, q with z * stride - pad + t *
// dilation = d and so on, as an implicit GEMM on tensor cores (igemm.h): float32 multiplied as TF32, channels_last,
// channels a group in multiples of 4, any stride, padding, dilation and groups, one to three axes.
//
// dgrad_igemm_nhwc_sm80.cu in floats: the filter is transposed by 4-byte loads, as ldmatrix turns 16 bits only.

#include "conv/cuda/igemm.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  run_igemm_dgrad<float>("conv_dgrad_igemm_tf32_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_igemm_tf32_nhwc_sm80) = {
    .algorithm = Algorithm::kIgemm, .why_not = igemm_tf32_dgrad_why_not, .run = run, .workspace = krsc_bytes};

}  // namespace fastconv
