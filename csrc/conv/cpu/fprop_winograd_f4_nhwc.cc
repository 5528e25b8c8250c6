// y = conv(x, w) by F(4x4, 3x3), float32 NHWC, stride 1, any padding, dilation and groups: see winograd.h.

#include "conv/cpu/winograd.h"

namespace fastconv {
namespace {

void run(const ConvProblem& p, const ConvArgs& args) { Winograd<4>::run(p, args, args.x); }

}  // namespace

FASTCONV_DEFINE(FASTCONV_NAME(conv_fprop_winograd_f4_nhwc)) = {.algorithm = Algorithm::kWinogradF4,
                                                               .why_not = Winograd<4>::why_not,
                                                               .run = run,
                                                               .workspace = Winograd<4>::workspace,
                                                               .packed_bytes = Winograd<4>::packed_bytes,
                                                               .pack = Winograd<4>::pack};

}  // namespace fastconv
