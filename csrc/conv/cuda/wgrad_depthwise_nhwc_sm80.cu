// dw[c,r,s] = sum over n,p,q of dy[n,c,p,q] * x[n,c,p * stride - pad + r * dilation, ..]
//
// NHWC, one channel a group. The engine and its costs are in depthwise_wgrad.h.

#include "conv/cuda/depthwise_wgrad.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) { return why_not_depthwise(p, Layout::kNhwc); }

void run(const ConvProblem& p, const ConvArgs& args) {
  run_depthwise_wgrad<Layout::kNhwc>("conv_wgrad_depthwise_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_depthwise_nhwc_sm80) = {.algorithm = Algorithm::kDepthwise,
                                                         .why_not = why_not,
                                                         .run = run,
                                                         .workspace = depthwise_wgrad_workspace<Layout::kNhwc>};

}  // namespace fastconv
