// dw[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,h,w], c over the channels of k's group, h = p * stride - pad + r.
//
// The work is cut as grouped.h and grouped_wgrad.h say; where the filter is not a dense 3x3, as grouped_taps_wgrad.h
// does.

#include "conv/cuda/grouped_taps_wgrad.h"
#include "conv/cuda/grouped_wgrad.h"

namespace fastconv {
namespace {

constexpr const char* kName = "conv_wgrad_grouped_nhwc_sm80";

size_t workspace(const ConvProblem& p) {
  if (!is_dense_3x3(p)) return taps_wgrad_bytes<Float16>(p);
  return static_cast<size_t>(plan_wgrad(p).splits) * static_cast<size_t>(p.w_elements()) * sizeof(float);
}

template <class T, int kChunks, int kStride>
void launch_both(const ConvProblem& p, const ConvArgs& args) {
  const WgradPlan plan = plan_wgrad(p);
  const int stages = kStages<kStride> * wgrad_stage_size<kStride>(plan.cut);
  launch(kName, p, grouped_wgrad<T, kChunks, kStride>,
         {.grid = {static_cast<unsigned>(plan.splits * plan.cut.channel_tiles)},
          .block = {plan.cut.threads()},
          .shared_bytes = static_cast<size_t>(stages) * sizeof(T),
          .stream = args.stream},
         shape_of(p), plan, static_cast<const T*>(args.x), static_cast<const T*>(args.dy),
         static_cast<float*>(args.workspace));
  launch_add_splits(kName, p, args, plan.splits, p.w_elements() / 4, WriteChannels<T>{shape_of(p), args.w});
}

void run(const ConvProblem& p, const ConvArgs& args) {
  with_half(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (!is_dense_3x3(p)) return run_taps_wgrad<T>(kName, p, args);
    with_chunks(p, [&](auto chunks) {
      if (p.stride_h == 1) launch_both<T, chunks.value, 1>(p, args);
      else launch_both<T, chunks.value, 2>(p, args);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_grouped_nhwc_sm80) = {
    .algorithm = Algorithm::kGrouped, .why_not = grouped_half_why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
