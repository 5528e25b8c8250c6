// y[n,k,z,p,q] = sum over c,t,r,s of x[n,c,z',p',q'] * w[k,c,t,r,s], with z' = z * stride - pad + t * dilation and so
// on, as an implicit GEMM on tensor cores (igemm.h): float32 multiplied as TF32, channels_last, channels a group in
// multiples of 4, any stride, padding, dilation and groups, one to three axes.
//
// Floor: x, w and y once; 2 * macs FLOPs at mma.sync's rate for TF32, half of float16's. Operands are rounded to
// nearest as they come from shared memory, one instruction for 2 to 4 of an mma's registers. Tiles, registers and
// shared memory are those of fprop_igemm_nhwc_sm80.cu, of half as many channels a stage.

#include "conv/cuda/igemm.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  run_igemm_fprop<float>("conv_fprop_igemm_tf32_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_igemm_tf32_nhwc_sm80) = {
    .algorithm = Algorithm::kIgemm, .why_not = igemm_tf32_why_not, .run = run, .workspace = krsc_bytes};

}  // namespace fastconv
