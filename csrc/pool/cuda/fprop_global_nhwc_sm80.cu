// y[n,c] = mean or maximum over w of x[n,w,c], the image being one window: global.h, 16 bytes of channels a thread.

#include "pool/cuda/global.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_global(p, Layout::kNhwc); }

void run(const PoolProblem& p, const PoolArgs& args) { run_global<true>("pool_fprop_global_nhwc_sm80", p, args); }

}  // namespace

FASTCONV_DEFINE(Pool, pool_fprop_global_nhwc_sm80) = {
    .algorithm = Algorithm::kGlobal, .why_not = why_not, .run = run, .workspace = global_workspace<true>};

}  // namespace fastconv
