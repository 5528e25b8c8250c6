// The first layer: y[n,p,q,k] from an image of at most four channels, read as NCHW and written as NHWC.
//
// The direct kernel (direct.h) with one difference: the planes are woven into NHWC rows as they are copied under the
// padding, so that a contiguous photograph needs no transposition of its own.

#include "conv/cpu/direct.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) {
  if (const char* reason = direct_why_not(p)) return reason;
  if (p.x_layout != Layout::kNchw) return "reads contiguous (NCHW) input only";
  if (p.C > NchwRows::kMostChannels) return "takes at most four input channels";
  return nullptr;
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_fprop_stem_nchw)) = {.algorithm = Algorithm::kStem,
                                                              .why_not = why_not,
                                                              .run = run_direct<NchwRows>,
                                                              .workspace = direct_workspace,
                                                              .packed_bytes = direct_packed_bytes,
                                                              .pack = direct_pack};

}  // namespace fastconv
