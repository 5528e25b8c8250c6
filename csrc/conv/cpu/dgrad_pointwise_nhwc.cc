// dx[n,h,w,c] = sum over k of dy[n,h,w,k] * w[k,c]: the dgrad of a 1x1 convolution of unit stride is a matrix product.
//
// The pointwise fprop of the adjoint problem. How the work is cut: pointwise.h.

#include "conv/cpu/pointwise.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) {
  if (!p.has_unit_stride()) return "takes unit stride only";
  return pointwise_why_not(adjoint(p));
}

void run(const ConvProblem& p, const ConvArgs& args) {
  ConvArgs turned = args;
  turned.x = args.dy;
  run_pointwise(adjoint(p), turned);
}

size_t packed_bytes(const ConvProblem& p) { return pointwise_packed_bytes(adjoint(p)); }
void pack(const ConvProblem& p, const Filter& w, void* packed) { pointwise_pack(adjoint(p), adjoint(w, p), packed); }

}  // namespace

FASTCONV_DEFINE(FASTCONV_NAME(conv_dgrad_pointwise_nhwc)) = {
    .algorithm = Algorithm::kPointwise, .why_not = why_not, .run = run, .packed_bytes = packed_bytes, .pack = pack};

}  // namespace fastconv
