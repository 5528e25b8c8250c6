// dw[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,p * stride - pad + r * dilation, ...], as an implicit GEMM with
// TMA and wgmma (igemm_wgrad_sm90a.h): float16 and bfloat16, channels_last images, one group, channels in multiples of
// 8; a weight of any strides.
//
// Floor: x and dy once, splits * 8 bytes an element of dw; 2 * macs FLOPs at wgmma's rate. Tiles of 256 x 192 (192
// registers of sums a thread, under 232 in all; 4 slots of 56 KiB), of 128 x 192 (96; 5 of 40 KiB) and, for up to 64
// filters, of 64 x 576 (three warpgroups, 96, under 152; 5 of 40 KiB): 110, 77 and 58 FLOP a byte of L2; products read
// 85 bytes of shared memory a clock of the 128. One block a multiprocessor.

#include "conv/cuda/igemm_wgrad_sm90a.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  constexpr const char* kName = "conv_wgrad_igemm_nhwc_sm90a";
  if (p.dtype == DType::kFloat16) run_igemm_wgrad_hopper<Float16>(kName, p, args);
  else run_igemm_wgrad_hopper<BFloat16>(kName, p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_igemm_nhwc_sm90a) = {
    .algorithm = Algorithm::kIgemm, .why_not = igemm_hopper_why_not, .run = run, .workspace = igemm_hopper_wgrad_bytes};

}  // namespace fastconv
