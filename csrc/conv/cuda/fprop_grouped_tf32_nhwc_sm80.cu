// y[n,k,p,q] = sum over c,r,s of x[n,c,h,w] * w[k,c,r,s], c over the channels of k's group, h = p * stride - pad + r *
// dilation: float32 multiplied as TF32, 4, 8, 16 or 32 channels a group in and out, filters up to 7x7.
//
// The work is cut as grouped_taps.h says. Operands are rounded to nearest: x as it comes from shared memory, the
// weights on their way there. Floor: x and y once; 2 * macs FLOPs (twice that with 4 channels a group) at mma.sync's
// rate for TF32, half of float16's.

#include "conv/cuda/grouped_taps.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  run_taps_fprop<float>("conv_fprop_grouped_tf32_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_grouped_tf32_nhwc_sm80) = {
    .algorithm = Algorithm::kGrouped, .why_not = grouped_tf32_why_not, .run = run};

}  // namespace fastconv
