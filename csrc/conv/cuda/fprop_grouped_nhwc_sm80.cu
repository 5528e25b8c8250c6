// y[n,k,p,q] = sum over c,r,s of x[n,c,h,w] * w[k,c,r,s], c over the channels of k's group, h = p * stride - pad + r.
//
// The work is cut as grouped.h and grouped_fprop.h say; where the filter is not a dense 3x3, as grouped_taps.h does.

#include "conv/cuda/grouped_fprop.h"
#include "conv/cuda/grouped_taps.h"

namespace fastconv {
namespace {

constexpr const char* kName = "conv_fprop_grouped_nhwc_sm80";

void run(const ConvProblem& p, const ConvArgs& args) {
  with_half(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!is_dense_3x3(p)) return run_taps_fprop<T>(kName, p, args);
    with_chunks(p, [&](auto chunks) {
      if (p.stride_h == 1) launch_grouped_fprop<T, chunks.value, 1>(kName, p, args.x, args.w, args);
      else launch_grouped_fprop<T, chunks.value, 2>(kName, p, args.x, args.w, args);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_grouped_nhwc_sm80) = {
    .algorithm = Algorithm::kGrouped, .why_not = grouped_half_why_not, .run = run};

}  // namespace fastconv
