// y[n,k,p,q] = sum over c,r,s of x[n,c,p * stride - pad + r * dilation, ...] * w[k,c,r,s], as an implicit GEMM with TMA
// and wgmma (igemm_sm90a.h): float16 and bfloat16, channels_last images, one group, channels in multiples of 8.
//
// Floor: x, w and y once; 2 * macs FLOPs at wgmma's rate. A tile of 256 x 128 takes 85 FLOP a byte of L2, 48 bytes a
// clock of its products, where L2 is expected to give 24 to 38; two blocks that share their pixels take 32. It reads 96
// bytes of shared memory a clock of the 128. Tiles of 256 x 64 and 128 x 64 are for narrow and for small problems. One
// block a multiprocessor: up to 192 KiB in slots (4 of 48, 4 of 40 or 8 of 24 KiB) and 32 KiB for the stores; two
// warpgroups of up to 128 registers of sums a thread, under 232 in all, and one of 40 for the thread that loads.

#include "conv/cuda/igemm_sm90a.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  constexpr const char* kName = "conv_fprop_igemm_nhwc_sm90a";
  if (p.dtype == DType::kFloat16) run_igemm_hopper<Float16>(kName, p, args);
  else run_igemm_hopper<BFloat16>(kName, p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_igemm_nhwc_sm90a) = {
    .algorithm = Algorithm::kIgemm, .why_not = igemm_hopper_why_not, .run = run, .workspace = krsc_bytes};

}  // namespace fastconv
