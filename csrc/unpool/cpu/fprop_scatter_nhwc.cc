// y[n,index[n,w,c],c] = x[n,w,c], zero elsewhere.
//
// An image of y is zeroed, then written where the indices say, in their order. The floor is the bytes of x, y and the
// indices. A channel of an image is one thread's, so that equal indices have one meaning. Work is cut by images, and by
// blocks of channels where images are few.

#include "unpool/cpu/scatter.h"

namespace fastconv {
namespace {

const char* why_not(const UnpoolProblem& p) {
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

/// The channels [begin, end) of image n.
template <class T>
void scatter(const UnpoolProblem& p, const UnpoolArgs& args, int64_t n, int64_t begin, int64_t end) {
  const T* x = static_cast<const T*>(args.x) + n * p.W * p.C;
  const int64_t* index = static_cast<const int64_t*>(args.index) + n * p.W * p.C;
  T* y = static_cast<T*>(args.out) + n * p.Q * p.C;
  if (end - begin == p.C) std::memset(y, 0, static_cast<size_t>(p.Q * p.C) * sizeof(T));
  else
    for (int64_t q = 0; q < p.Q; ++q) std::memset(y + q * p.C + begin, 0, static_cast<size_t>(end - begin) * sizeof(T));
  for (int64_t w = 0; w < p.W; ++w, x += p.C, index += p.C)
    for (int64_t c = begin; c < end; ++c)
      if (is_inside(index[c], p.Q, args)) y[index[c] * p.C + c] = x[c];
}

void run(const UnpoolProblem& p, const UnpoolArgs& args) {
  const Blocks blocks(p);
  const int64_t parts = p.N * blocks.per_image, tasks = least(parts, num_threads());
  with_bits(p.dtype, [&](auto element) {
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(parts, tasks, task);
      for (int64_t part = range.begin; part < range.end; ++part) {
        const int64_t begin = part % blocks.per_image * blocks.channels;
        scatter<decltype(element)>(p, args, part / blocks.per_image, begin, least(begin + blocks.channels, p.C));
      }
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Unpool, FASTCONV_NAME(unpool_fprop_scatter_nhwc)) = {
    .algorithm = Algorithm::kScatter, .why_not = why_not, .run = run};

}  // namespace fastconv
