// y[n,z,p,q,c] = mean or maximum over the window of x[n,d,h,w,c]: direct.h, 16 bytes of channels a thread.

#include "pool/cuda/direct.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_on(p, Layout::kNhwc); }

void run(const PoolProblem& p, const PoolArgs& args) {
  with_packs(p, p.C, [&](auto zero, auto lanes) {
    run_direct<decltype(zero), lanes, (lanes > 1)>("pool_fprop_direct_nhwc_sm80", p, args);
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_fprop_direct_nhwc_sm80) = {.algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
