// y[n,p,q,k] = sum over r,s and the channels c of k's group of x[n,h,w,c] * w[k,c,r,s], h = p * stride - pad + r *
// dilation.
//
// The engine, its tiles and the cut of the work: conv/cpu/grouped.h. 4, 8, 16 or 32 channels a group; any filter,
// stride, padding and dilation; filter width 3 at stride 1 and 2, dense, has tiles of its own.

#include "conv/cpu/grouped.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  GroupedCall call{p.N, p.C, p.C_per_group(), p.H, p.W, p.P, p.Q, p.R, p.S};
  call.in = static_cast<const float*>(args.x), call.out = static_cast<float*>(args.out);
  call.packed = static_cast<const float*>(args.packed), call.epilogue = args.epilogue;
  call.rows[0] = fprop_axis(p.P, p.R, p.stride_h, p.pad_h, p.dilation_h);
  call.columns[0] = fprop_axis(p.Q, p.S, p.stride_w, p.pad_w, p.dilation_w);
  run_grouped(call);
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_fprop_grouped_nhwc)) = {.algorithm = Algorithm::kGrouped,
                                                                 .why_not = grouped_why_not,
                                                                 .run = run,
                                                                 .packed_bytes = grouped_packed_bytes,
                                                                 .pack = pack_grouped};

}  // namespace fastconv
