// y[n,p,q,k] = sum over r,s,c of x[n, p * stride - pad + r * dilation, ..., c] * w[k,c,r,s], any 2-d problem in NHWC.
//
// How the work is cut: direct.h.

#include "conv/cpu/direct.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) {
  if (const char* reason = direct_why_not(p)) return reason;
  if (p.x_layout != Layout::kNhwc) return "reads channels_last only";
  return nullptr;
}

}  // namespace

FASTCONV_DEFINE(FASTCONV_NAME(conv_fprop_direct_nhwc)) = {.algorithm = Algorithm::kDirect,
                                                          .why_not = why_not,
                                                          .run = run_direct<NhwcRows>,
                                                          .workspace = direct_workspace,
                                                          .packed_bytes = direct_packed_bytes,
                                                          .pack = direct_pack};

}  // namespace fastconv
