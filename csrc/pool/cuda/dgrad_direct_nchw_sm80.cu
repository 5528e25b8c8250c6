// dx[n,c,d,h,w] = sum over the outputs whose windows look at the input of dy[n,c,z,p,q] / divisor, or of dy where the
// index says that the input was the maximum, images as they lie: dgrad.h, neighbouring threads take neighbouring
// columns.

#include "pool/cuda/dgrad.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_on(p, Layout::kNchw); }

void run(const PoolProblem& p, const PoolArgs& args) {
  with_element(p.dtype, [&](auto zero) { run_dgrad<decltype(zero), 1, true>("pool_dgrad_direct_nchw_sm80", p, args); });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_dgrad_direct_nchw_sm80) = {.algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
