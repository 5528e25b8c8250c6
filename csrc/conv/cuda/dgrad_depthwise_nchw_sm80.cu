// dx[n,c,h,w] = sum over r,s of dy[n,c,(h + pad - r * dilation) / stride, ..] * w[c,r,s], where it divides
//
// NCHW, one channel a group. The engine and its costs are in depthwise.h.

#include "conv/cuda/depthwise.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) { return why_not_depthwise(p, Layout::kNchw); }

void run(const ConvProblem& p, const ConvArgs& args) {
  run_depthwise_dgrad<Layout::kNchw>("conv_dgrad_depthwise_nchw_sm80", p, args);
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_depthwise_nchw_sm80) = {
    .algorithm = Algorithm::kDepthwise, .why_not = why_not, .run = run};

}  // namespace fastconv
