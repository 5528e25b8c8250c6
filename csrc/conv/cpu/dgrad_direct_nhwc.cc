// dx[n,h,w,c] = sum over r,s,k of dy[n, h + pad - r * dilation, ..., k] * w[k,c,r,s], any 2-d problem of unit stride.
//
// The direct fprop of the adjoint problem: dy convolved with the flipped filter, C and K exchanged. How the work is
// cut: direct.h.

#include "conv/cpu/direct.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) {
  if (!p.has_unit_stride()) return "takes unit stride only";
  if (const char* reason = direct_why_not(adjoint(p))) return reason;
  if (p.y_layout != Layout::kNhwc) return "reads channels_last only";
  return nullptr;
}

void run(const ConvProblem& p, const ConvArgs& args) {
  ConvArgs turned = args;
  turned.x = args.dy;
  run_direct<NhwcRows>(adjoint(p), turned);
}

size_t workspace(const ConvProblem& p) { return direct_workspace(adjoint(p)); }
size_t packed_bytes(const ConvProblem& p) { return direct_packed_bytes(adjoint(p)); }
void pack(const ConvProblem& p, const Filter& w, void* packed) { direct_pack(adjoint(p), adjoint(w, p), packed); }

}  // namespace

FASTCONV_DEFINE(FASTCONV_NAME(conv_dgrad_direct_nhwc)) = {.algorithm = Algorithm::kDirect,
                                                          .why_not = why_not,
                                                          .run = run,
                                                          .workspace = workspace,
                                                          .packed_bytes = packed_bytes,
                                                          .pack = pack};

}  // namespace fastconv
