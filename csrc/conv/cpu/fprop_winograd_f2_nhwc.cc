// y = conv(x, w) by F(2x2, 3x3), float32 NHWC, stride 1, any padding, dilation and groups: see winograd.h.

#include "conv/cpu/winograd.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) { Winograd<2>::run(p, args, args.x); }

}  // namespace

FASTCONV_DEFINE(FASTCONV_NAME(conv_fprop_winograd_f2_nhwc)) = {.algorithm = Algorithm::kWinogradF2,
                                                               .why_not = Winograd<2>::why_not,
                                                               .run = run,
                                                               .workspace = Winograd<2>::workspace,
                                                               .packed_bytes = Winograd<2>::packed_bytes,
                                                               .pack = Winograd<2>::pack};

}  // namespace fastconv
