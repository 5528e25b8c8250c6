// dw[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,h,w], c over the channels of k's group, h = p * stride - pad + r
// * dilation: float32 multiplied as TF32, 4, 8, 16 or 32 channels a group in and out, filters up to 7x7.
//
// The work is cut as grouped_taps_wgrad.h says; operands are rounded to nearest as they come from shared memory.

#include "conv/cuda/grouped_taps_wgrad.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  run_taps_wgrad<float>("conv_wgrad_grouped_tf32_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_grouped_tf32_nhwc_sm80) = {.algorithm = Algorithm::kGrouped,
                                                            .why_not = grouped_tf32_why_not,
                                                            .run = run,
                                                            .workspace = taps_wgrad_bytes<float>};

}  // namespace fastconv
