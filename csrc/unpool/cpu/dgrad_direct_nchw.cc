// dx[n,c,w] = dy[n,c,index[n,c,w]], images as they lie: each input gathers what its place in y was given.
//
// The floor is the bytes of dx, the indices and the lines of dy that they name. Work is cut by inputs of all planes.

#include "unpool/cpu/scatter.h"

namespace fastconv {
namespace {

const char* why_not(const UnpoolProblem& p) {
  if (p.x_layout != Layout::kNchw || p.y_layout != Layout::kNchw) return "takes contiguous images only";
  return nullptr;
}

/// The inputs [begin, end) of all planes.
template <class T>
void gather(const UnpoolProblem& p, const UnpoolArgs& args, int64_t begin, int64_t end) {
  const auto* index = static_cast<const int64_t*>(args.index);
  T* dx = static_cast<T*>(args.out);
  while (begin < end) {
    const int64_t plane = begin / p.W, stop = least(end, (plane + 1) * p.W);
    const T* dy = static_cast<const T*>(args.dy) + plane * p.Q;
    for (; begin < stop; ++begin) dx[begin] = is_inside(index[begin], p.Q, args) ? dy[index[begin]] : T{0};
  }
}

void run(const UnpoolProblem& p, const UnpoolArgs& args) {
  const int64_t inputs = p.N * p.C * p.W, tasks = least(inputs, num_threads());
  with_bits(p.dtype, [&](auto element) {
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(inputs, tasks, task);
      gather<decltype(element)>(p, args, range.begin, range.end);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Unpool, FASTCONV_NAME(unpool_dgrad_direct_nchw)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
