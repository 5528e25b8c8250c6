// dw[k,c,t,r,s] = sum over n,z,p,q of dy[n,k,z,p,q] * x[n,c,d,h,w], d = z * stride - pad + t * dilation and so on, as
// an implicit GEMM on tensor cores (igemm_wgrad.h): float16 and bfloat16, channels_last, channels a group in multiples
// of 8, any stride, padding, dilation and groups, one to three axes; a weight of any strides.
//
// Floor: x and dy once, splits * 8 bytes an element of dw; 2 * macs FLOPs at mma.sync's rate. Tiles of 128 x 128 (224
// registers, 64 KiB of shared memory: two blocks a multiprocessor) and 64 x 64 (94, 32 KiB), four warps each.

#include "conv/cuda/igemm_wgrad.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  constexpr const char* kName = "conv_wgrad_igemm_nhwc_sm80";
  if (p.dtype == DType::kFloat16) run_igemm_wgrad<Float16>(kName, p, args);
  else run_igemm_wgrad<BFloat16>(kName, p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_igemm_nhwc_sm80) = {
    .algorithm = Algorithm::kIgemm, .why_not = igemm_half_why_not, .run = run, .workspace = igemm_wgrad_bytes};

}  // namespace fastconv
