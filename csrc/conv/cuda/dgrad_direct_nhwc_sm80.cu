// dx[n,c,h,w] = sum over r,s,k of dy[n,k,p,q] * w[k,c,r,s] over the p, q with p * stride - pad + r * dilation = h:
// implicit GEMM on the FMA units, a phase of the stride at a time.
//
// Exact in every dtype: strict float32, and float64. How the work is cut: direct.h.

#include "conv/cuda/direct.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  run_direct<Direction::kDgrad>("conv_dgrad_direct_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_direct_nhwc_sm80) = {
    .algorithm = Algorithm::kDirect, .why_not = direct_why_not, .run = run};

}  // namespace fastconv
