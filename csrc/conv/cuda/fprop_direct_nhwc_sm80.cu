// y[n,k,p,q] = sum over r,s,c of x[n,c,p',q'] * w[k,c,r,s], p' = p * stride - pad + r * dilation: implicit GEMM on the
// FMA units.
//
// Exact in every dtype: strict float32, and float64. How the work is cut: direct.h.

#include "conv/cuda/direct.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  run_direct<Direction::kFprop>("conv_fprop_direct_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_direct_nhwc_sm80) = {
    .algorithm = Algorithm::kDirect, .why_not = direct_why_not, .run = run};

}  // namespace fastconv
