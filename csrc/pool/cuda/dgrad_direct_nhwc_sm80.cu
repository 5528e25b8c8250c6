// dx[n,d,h,w,c] = sum over the outputs whose windows look at the input of dy[n,z,p,q,c] / divisor, or of dy where the
// index says that the input was the maximum: dgrad.h, 16 bytes of channels a thread.

#include "pool/cuda/dgrad.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_on(p, Layout::kNhwc); }

void run(const PoolProblem& p, const PoolArgs& args) {
  with_packs(p, p.C, [&](auto zero, auto lanes) {
    run_dgrad<decltype(zero), lanes, (lanes > 1)>("pool_dgrad_direct_nhwc_sm80", p, args);
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_dgrad_direct_nhwc_sm80) = {.algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
