// dx[n,h,w,c] = sum over r,s of dy[n,p,q,c] * w[c,r,s] where p * stride - pad + r * dilation = h, and so for q.
//
// The engine, its tiles and the cut of the work: conv/cpu/depthwise.h. An output h is reached by every stride-th tap
// alone, so that dx falls into stride^2 phases, each a convolution of dy at unit stride.

#include "conv/cpu/depthwise.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) {
  if (const char* reason = depthwise_why_not(p)) return reason;
  if (p.stride_h > kMaxPhases || p.stride_w > kMaxPhases) return "takes strides up to 8";
  return nullptr;
}

void run(const ConvProblem& p, const ConvArgs& args) {
  DepthwiseCall call{p.N, p.C, p.P, p.Q, p.H, p.W, p.R, p.S};
  call.in = static_cast<const float*>(args.dy), call.out = static_cast<float*>(args.out);
  call.packed = static_cast<const float*>(args.packed), call.epilogue = args.epilogue;
  for (int64_t i = 0; i < p.stride_h; ++i) call.rows[i] = dgrad_axis(i, p.H, p.R, p.stride_h, p.pad_h, p.dilation_h);
  for (int64_t i = 0; i < p.stride_w; ++i) call.columns[i] = dgrad_axis(i, p.W, p.S, p.stride_w, p.pad_w, p.dilation_w);
  run_depthwise(call);
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_dgrad_depthwise_nhwc)) = {.algorithm = Algorithm::kDepthwise,
                                                                   .why_not = why_not,
                                                                   .run = run,
                                                                   .packed_bytes = depthwise_packed_bytes,
                                                                   .pack = pack_depthwise};

}  // namespace fastconv
