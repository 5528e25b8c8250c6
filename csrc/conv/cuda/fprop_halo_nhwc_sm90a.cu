// y[n,k,p,q] = sum over r,s,c of x[n,c,p - pad + r * dilation, q - pad + s * dilation] * w[k,c,r,s], each pixel of x
// loaded once for all taps (halo_sm90a.h): float16 and bfloat16, channels_last images, one group, unit stride, channels
// in multiples of 8, up to 128 of them out.
//
// Floor: x, w and y once; 2 * macs FLOPs at wgmma's rate. With C = K = 64 and 3 x 3 taps that is 288 FLOP a byte of x
// and y, above the 200 of an H200: the products decide. What must not be slower is the way from L2 to the
// multiprocessor. An implicit GEMM with 256 pixels a tile takes 9 * 128 bytes of it a pixel for 9 * 64 * 64
// products, 0.031 bytes each, where about 0.014 can be had at full rate; a tile of 8 x 32 pixels has a halo of 10 x 34
// and takes 170 bytes a pixel, 0.005.
//
// One block a multiprocessor, 227 KiB of shared memory: 8 KiB of slabs and barriers, the filter (64 to 64 channels,
// 3 x 3: 72 KiB; 64 to 128: 144 KiB) and 2 to 4 tiles (42.5 KiB of 8 x 32 pixels, 22.5 KiB of 8 x 16). Two warpgroups
// of 128 registers of sums a thread (64 where a tile is 8 x 16 pixels of up to 64 channels), under 232 in all, and one
// of 40 for the thread that loads.

#include "conv/cuda/halo_sm90a.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  constexpr const char* kName = "conv_fprop_halo_nhwc_sm90a";
  if (p.dtype == DType::kFloat16) run_halo<Float16>(kName, p, args);
  else run_halo<BFloat16>(kName, p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_halo_nhwc_sm90a) = {
    .algorithm = Algorithm::kDirect, .why_not = halo_why_not, .run = run, .workspace = krsc_bytes};

}  // namespace fastconv
