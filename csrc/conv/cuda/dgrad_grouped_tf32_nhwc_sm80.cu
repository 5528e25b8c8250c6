// dx[n,c,h,w] = sum over k,r,s of dy[n,k,p,q] * w[k,c,r,s], k over the channels of c's group, p * stride = h + pad - r
// * dilation: float32 multiplied as TF32, 4, 8, 16 or 32 channels a group in and out, filters up to 7x7.
//
// fprop_grouped_tf32_nhwc_sm80.cu of dy with the flipped filter, or four of it with the taps of a parity each.

#include "conv/cuda/grouped_taps.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  run_taps_dgrad<float>("conv_dgrad_grouped_tf32_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_grouped_tf32_nhwc_sm80) = {
    .algorithm = Algorithm::kGrouped, .why_not = grouped_tf32_why_not, .run = run};

}  // namespace fastconv
