// y[n,k,p,q] = sum over c,r,s of x[n,c,h,w] * w[k,c,r,s], c over the channels of k's group, h = p * stride - pad + r.
//
// The work is cut as grouped.h and grouped_fprop.h say.

#include "conv/cuda/grouped_fprop.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) {
  with_half(p.dtype, [&](auto zero) {
    with_chunks(p, [&](auto chunks) {
      using T = decltype(zero);
      if (p.stride_h == 1)
        launch_grouped_fprop<T, chunks.value, 1>("conv_fprop_grouped_nhwc_sm80", p, args.x, args.w, args);
      else launch_grouped_fprop<T, chunks.value, 2>("conv_fprop_grouped_nhwc_sm80", p, args.x, args.w, args);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(conv_fprop_grouped_nhwc_sm80) = {
    .algorithm = Algorithm::kGrouped, .why_not = grouped_why_not, .run = run};

}  // namespace fastconv
