// dx[n,c,h,w] = sum over r,s of dy[n,c,(h + pad - r * dilation) / stride, ..] * w[c,r,s], where it divides
//
// NHWC, one channel a group. The engine and its costs are in depthwise.h.

#include "conv/cuda/depthwise.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) { return why_not_depthwise(p, Layout::kNhwc); }

void run(const ConvProblem& p, const ConvArgs& args) {
  run_depthwise_dgrad<Layout::kNhwc>("conv_dgrad_depthwise_nhwc_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_depthwise_nhwc_sm80) = {
    .algorithm = Algorithm::kDepthwise, .why_not = why_not, .run = run};

}  // namespace fastconv
