// wgrad of the first layer, x read as NCHW, dy as NHWC: dw[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,h,w], C
// <= 4. See wgrad_stem.h.

#include "conv/cuda/wgrad_stem.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) { return stem_wgrad_why_not(p, Layout::kNchw); }
void run(const ConvProblem& p, const ConvArgs& args) { run_stem_wgrad("conv_wgrad_stem_nchw_sm80", p, args); }

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_stem_nchw_sm80) = {
    .algorithm = Algorithm::kStem, .why_not = why_not, .run = run, .workspace = stem_wgrad_workspace};

}  // namespace fastconv
