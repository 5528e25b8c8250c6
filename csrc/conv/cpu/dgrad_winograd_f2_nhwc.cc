// dx = the adjoint convolution of dy by F(2x2, 3x3), float32 NHWC, stride 1: fprop of the adjoint problem.

#include "conv/cpu/winograd.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) {
  if (!p.has_unit_stride()) return "takes stride 1 only";
  return Winograd<2>::why_not(adjoint(p));
}

void run(const ConvProblem& p, const ConvArgs& args) { Winograd<2>::run(adjoint(p), args, args.dy); }

size_t workspace(const ConvProblem& p) { return Winograd<2>::workspace(adjoint(p)); }

size_t packed_bytes(const ConvProblem& p) { return Winograd<2>::packed_bytes(adjoint(p)); }

void pack(const ConvProblem& p, const Filter& w, void* packed) { Winograd<2>::pack(adjoint(p), adjoint(w, p), packed); }

}  // namespace

FASTCONV_DEFINE(FASTCONV_NAME(conv_dgrad_winograd_f2_nhwc)) = {.algorithm = Algorithm::kWinogradF2,
                                                               .why_not = why_not,
                                                               .run = run,
                                                               .workspace = workspace,
                                                               .packed_bytes = packed_bytes,
                                                               .pack = pack};

}  // namespace fastconv
