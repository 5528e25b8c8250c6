// dx[n,c,h,w] = sum over k,r,s of dy[n,k,p,q] * w[k,c,r,s], k over the channels of c's group, p * stride = h + pad - r.
//
// Unit stride is fprop of dy with the flipped filter, as grouped_fprop.h does it; stride 2 is grouped_dgrad.h. Where
// the filter is not a dense 3x3, both are grouped_taps.h.

#include "conv/cuda/grouped_dgrad.h"
#include "conv/cuda/grouped_fprop.h"
#include "conv/cuda/grouped_taps.h"

namespace fastconv {
namespace {

constexpr const char* kName = "conv_dgrad_grouped_nhwc_sm80";

void run(const ConvProblem& p, const ConvArgs& args) {
  with_half(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!is_dense_3x3(p)) return run_taps_dgrad<T>(kName, p, args);
    with_chunks(p, [&](auto chunks) {
      if (p.stride_h == 1)
        launch_grouped_fprop<T, chunks.value, 1>(kName, adjoint(p), args.dy, adjoint(args.w, p), args);
      else launch_grouped_dgrad<T, chunks.value>(kName, p, args);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_grouped_nhwc_sm80) = {
    .algorithm = Algorithm::kGrouped, .why_not = grouped_half_why_not, .run = run};

}  // namespace fastconv
