// y[n,c,p,q] = sum over r,s of x[n,c,p * stride - pad + r * dilation, ..] * w[c,r,s]
//
// NHWC, one channel a group. The engine and its costs are in depthwise.h.

#include "conv/cuda/depthwise.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) { return why_not_depthwise(p, Layout::kNhwc); }

void run(const ConvProblem& p, const ConvArgs& args) {
  run_depthwise_fprop<Layout::kNhwc>("conv_fprop_depthwise_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_depthwise_nhwc_sm80) = {
    .algorithm = Algorithm::kDepthwise, .why_not = why_not, .run = run};

}  // namespace fastconv
