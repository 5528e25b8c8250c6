// The first layer read as NHWC: y[n,k,p,q] = sum over r,c,s of x[n,c,h,w] * w[k,c,r,s], C <= 4. See stem.h.

#include "conv/cuda/stem.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) { return stem_why_not(p, Layout::kNhwc); }
void run(const ConvProblem& p, const ConvArgs& args) { run_stem("conv_fprop_stem_nhwc_sm80", p, args); }

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_stem_nhwc_sm80) = {.algorithm = Algorithm::kStem, .why_not = why_not, .run = run};

}  // namespace fastconv
