// y[n,c,z,p,q] = mean or maximum over the window of x[n,c,d,h,w], images as they lie: direct.h, an output a thread.

#include "pool/cuda/direct.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_on(p, Layout::kNchw); }

void run(const PoolProblem& p, const PoolArgs& args) {
  with_element(p.dtype,
               [&](auto zero) { run_direct<decltype(zero), 1, true>("pool_fprop_direct_nchw_sm80", p, args); });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_fprop_direct_nchw_sm80) = {.algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
