// dx[n,c,w] = dy[n,c] / W, or dy where the index says that the input was the maximum, the image being one window,
// images as they lie.
//
// The floor is the bytes of dx. Work is cut by planes.

#include <algorithm>

#include "pool/cpu/gather.h"
#include "pool/cpu/global.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_global(p, Layout::kNchw); }

template <class T, class Gather>
void spread(const PoolProblem& p, const PoolArgs& args, int64_t plane) {
  const T dy = static_cast<const T*>(args.dy)[plane];
  T* dx = static_cast<T*>(args.out) + plane * p.W;
  T rest;
  from_float(std::is_same_v<Gather, Share> ? to_float(dy) / global_divisor(p) : 0.0f, &rest);
  std::fill_n(dx, p.W, rest);
  if constexpr (!std::is_same_v<Gather, Share>) {
    const auto at = static_cast<int64_t>(static_cast<const typename Gather::Index*>(args.index)[plane]);
    if (at >= 0 && at < p.W) dx[at] = dy;
  }
}

void run(const PoolProblem& p, const PoolArgs& args) {
  const int64_t planes = p.N * p.C, tasks = least(planes, num_threads());
  with_gathers(p, [&](auto element, auto each) {
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(planes, tasks, task);
      for (int64_t plane = range.begin; plane < range.end; ++plane)
        spread<decltype(element), decltype(each)>(p, args, plane);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_dgrad_global_nchw)) = {
    .algorithm = Algorithm::kGlobal, .why_not = why_not, .run = run};

}  // namespace fastconv
