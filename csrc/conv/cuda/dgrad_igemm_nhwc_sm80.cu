// dx[n,c,d,h,w] = sum over k,t,r,s of dy[n,k,z,p,q] * w[k,c,t,r,s] over the z, p, q with z * stride - pad + t *
// dilation = d and so on, as an implicit GEMM on tensor cores (igemm.h): float16 and bfloat16, channels_last, channels
// a group in multiples of 8, any stride, padding, dilation and groups, one to three axes.
//
// Strides s make s^2 phases of dx, GEMMs of their own over the taps that reach them, in one launch (igemm_plan.h);
// where none does, the epilogue finishes zeros. The filter is read as it lies, by rows of c, and transposed by
// ldmatrix.
//
// Floor: dy, w and dx once; 2 * macs FLOPs at mma.sync's rate. Tiles, registers and shared memory are fprop's.

#include "conv/cuda/igemm.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  constexpr const char* kName = "conv_dgrad_igemm_nhwc_sm80";
  if (p.dtype == DType::kFloat16) run_igemm_dgrad<Float16>(kName, p, args);
  else run_igemm_dgrad<BFloat16>(kName, p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_igemm_nhwc_sm80) = {
    .algorithm = Algorithm::kIgemm, .why_not = igemm_half_dgrad_why_not, .run = run, .workspace = krsc_bytes};

}  // namespace fastconv
