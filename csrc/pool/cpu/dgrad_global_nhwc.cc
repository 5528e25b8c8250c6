// dx[n,w,c] = dy[n,c] / W, or dy where the index says that the input was the maximum, the image being one window.
//
// The floor is the bytes of dx. Work is cut by pixels of all images; vectors run over channels.

#include "pool/cpu/gather.h"
#include "pool/cpu/global.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_global(p, Layout::kNhwc); }

template <class T, class Gather>
void spread(const PoolProblem& p, const PoolArgs& args, int64_t pixel) {
  using Index = typename Gather::Index;
  constexpr bool kIndexed = !std::is_same_v<Index, NoIndices>;
  const int64_t n = pixel / p.W, w = pixel % p.W;
  const T* dy = static_cast<const T*>(args.dy) + n * p.C;
  const Index* index = kIndexed ? static_cast<const Index*>(args.index) + n * p.C : nullptr;
  T* dx = static_cast<T*>(args.out) + pixel * p.C;
  const Vec part = broadcast(1 / global_divisor(p));
  for (int64_t c = 0; c < p.C; c += kLanes) {
    const int64_t lanes = least(kLanes, p.C - c);
    const Vec share =
        Gather::of(load_lanes(dy + c, lanes), part, index + (kIndexed ? c : 0), static_cast<int32_t>(w), lanes);
    store_lanes(dx + c, share, lanes);
  }
}

void run(const PoolProblem& p, const PoolArgs& args) {
  const int64_t pixels = p.N * p.W, tasks = least(pixels, num_threads());
  with_gathers(p, [&](auto element, auto each) {
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(pixels, tasks, task);
      for (int64_t pixel = range.begin; pixel < range.end; ++pixel)
        spread<decltype(element), decltype(each)>(p, args, pixel);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_dgrad_global_nhwc)) = {
    .algorithm = Algorithm::kGlobal, .why_not = why_not, .run = run};

}  // namespace fastconv
