// y[n,c] = mean or maximum over w of x[n,c,w], the image being one window, images as they lie: global.h.

#include "pool/cuda/global.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_global(p, Layout::kNchw); }

void run(const PoolProblem& p, const PoolArgs& args) { run_global<false>("pool_fprop_global_nchw_sm80", p, args); }

}  // namespace

FASTCONV_DEFINE(Pool, pool_fprop_global_nchw_sm80) = {
    .algorithm = Algorithm::kGlobal, .why_not = why_not, .run = run, .workspace = global_workspace<false>};

}  // namespace fastconv
