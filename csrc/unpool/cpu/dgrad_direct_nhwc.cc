// dx[n,w,c] = dy[n,index[n,w,c],c]: each input gathers what its place in y was given.
//
// The floor is the bytes of dx, the indices and the lines of dy that they name. Work is cut by pixels of all images.

#include "unpool/cpu/scatter.h"

namespace fastconv {
namespace {

const char* why_not(const UnpoolProblem& p) {
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

template <class T>
void gather(const UnpoolProblem& p, const UnpoolArgs& args, int64_t pixel) {
  const int64_t* index = static_cast<const int64_t*>(args.index) + pixel * p.C;
  const T* dy = static_cast<const T*>(args.dy) + pixel / p.W * p.Q * p.C;
  T* dx = static_cast<T*>(args.out) + pixel * p.C;
  for (int64_t c = 0; c < p.C; ++c) dx[c] = is_inside(index[c], p.Q, args) ? dy[index[c] * p.C + c] : T{0};
}

void run(const UnpoolProblem& p, const UnpoolArgs& args) {
  const int64_t pixels = p.N * p.W, tasks = least(pixels, num_threads());
  with_bits(p.dtype, [&](auto element) {
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(pixels, tasks, task);
      for (int64_t pixel = range.begin; pixel < range.end; ++pixel) gather<decltype(element)>(p, args, pixel);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Unpool, FASTCONV_NAME(unpool_dgrad_direct_nhwc)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
