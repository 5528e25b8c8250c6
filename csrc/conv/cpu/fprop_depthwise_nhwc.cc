// y[n,p,q,k] = sum over r,s of x[n,h,w,k] * w[k,r,s], one filter a channel, h = p * stride - pad + r * dilation.
//
// The engine, its tiles and the cut of the work: conv/cpu/depthwise.h. Any filter, stride, padding and dilation; filter
// widths 3, 5 and 7 at stride 1 and 2, dense, have tiles of their own.

#include "conv/cpu/depthwise.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  DepthwiseCall call{p.N, p.C, p.H, p.W, p.P, p.Q, p.R, p.S};
  call.in = static_cast<const float*>(args.x), call.out = static_cast<float*>(args.out);
  call.packed = static_cast<const float*>(args.packed), call.epilogue = args.epilogue;
  call.rows[0] = fprop_axis(p.P, p.R, p.stride_h, p.pad_h, p.dilation_h);
  call.columns[0] = fprop_axis(p.Q, p.S, p.stride_w, p.pad_w, p.dilation_w);
  run_depthwise(call);
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_fprop_depthwise_nhwc)) = {.algorithm = Algorithm::kDepthwise,
                                                                   .why_not = depthwise_why_not,
                                                                   .run = run,
                                                                   .packed_bytes = depthwise_packed_bytes,
                                                                   .pack = pack_depthwise};

}  // namespace fastconv
