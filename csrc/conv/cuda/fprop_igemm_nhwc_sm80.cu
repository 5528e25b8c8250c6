// y[n,k,z,p,q] = sum over c,t,r,s of x[n,c,z',p',q'] * w[k,c,t,r,s], with z' = z * stride - pad + t * dilation and so
// on, as an implicit GEMM on tensor cores (igemm.h): float16 and bfloat16, channels_last, channels a group in multiples
// of 8, any stride, padding, dilation and groups, one to three axes.
//
// Floor: x, w and y once; 2 * macs FLOPs at mma.sync's rate. A tile of 128 x 128 takes a byte from L2 for 64 FLOPs;
// four warps of 64 x 64 sums read 128 bytes of shared memory an mma, two thirds of what narrower ones would. 218
// registers, 72 KiB of shared memory (4 stages of 16 KiB, or the sums on their way out): two blocks a multiprocessor.
// Tiles of 128 x 64 (145 registers, 48 KiB) for few channels and 64 x 64 (95, 32 KiB) for small problems.

#include "conv/cuda/igemm.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  constexpr const char* kName = "conv_fprop_igemm_nhwc_sm80";
  if (p.dtype == DType::kFloat16) run_igemm_fprop<Float16>(kName, p, args);
  else run_igemm_fprop<BFloat16>(kName, p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_igemm_nhwc_sm80) = {
    .algorithm = Algorithm::kIgemm, .why_not = igemm_half_why_not, .run = run, .workspace = krsc_bytes};

}  // namespace fastconv
