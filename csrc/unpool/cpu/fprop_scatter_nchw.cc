// y[n,c,index[n,c,w]] = x[n,c,w], zero elsewhere, images as they lie.
//
// A plane of y is zeroed, then written where the indices say, in their order, while it is in a cache. The floor is the
// bytes of x, y and the indices. A plane is one thread's, so that equal indices have one meaning. Work is cut by
// planes.

#include "unpool/cpu/scatter.h"

namespace fastconv {
namespace {

const char* why_not(const UnpoolProblem& p) {
  if (p.x_layout != Layout::kNchw || p.y_layout != Layout::kNchw) return "takes contiguous images only";
  return nullptr;
}

template <class T>
void scatter(const UnpoolProblem& p, const UnpoolArgs& args, int64_t plane) {
  const T* x = static_cast<const T*>(args.x) + plane * p.W;
  const int64_t* index = static_cast<const int64_t*>(args.index) + plane * p.W;
  T* y = static_cast<T*>(args.out) + plane * p.Q;
  std::memset(y, 0, static_cast<size_t>(p.Q) * sizeof(T));
  for (int64_t w = 0; w < p.W; ++w)
    if (is_inside(index[w], p.Q, args)) y[index[w]] = x[w];
}

void run(const UnpoolProblem& p, const UnpoolArgs& args) {
  const int64_t planes = p.N * p.C, tasks = least(planes, num_threads());
  with_bits(p.dtype, [&](auto element) {
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(planes, tasks, task);
      for (int64_t plane = range.begin; plane < range.end; ++plane) scatter<decltype(element)>(p, args, plane);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Unpool, FASTCONV_NAME(unpool_fprop_scatter_nchw)) = {
    .algorithm = Algorithm::kScatter, .why_not = why_not, .run = run};

}  // namespace fastconv
