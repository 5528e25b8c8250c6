// dx[n,c,d,h,w] = dy[n,c,index[n,c,d,h,w]], by the definition. Any layout, dtype and extents. Work is cut by planes
// (n, c).

#include "core/cpu/ref.h"
#include "unpool/unpool.h"

namespace fastconv {
namespace {

template <class T>
void run_typed(const UnpoolProblem& p, const UnpoolArgs& args) {
  const T* dy = static_cast<const T*>(args.dy);
  const int64_t* index = static_cast<const int64_t*>(args.index);
  T* dx = static_cast<T*>(args.out);
  const Axes ax = axes_of(p.C, 1, 1, p.x_pixels(), p.x_layout), ay = axes_of(p.C, 1, 1, p.y_pixels(), p.y_layout);
  parallel_for(p.N * p.C, [&](int64_t plane) {
    const int64_t n = plane / p.C, c = plane % p.C;
    for (int64_t i = 0; i < p.x_pixels(); ++i) {
      const int64_t at = ax.at(n, c, 0, 0, i), from = index[at];
      if (from >= 0 && from < p.y_pixels()) {
        dx[at] = dy[ay.at(n, c, 0, 0, from)];
        continue;
      }
      write(0, dx + at);
      if (args.stray) args.stray->note(from);
    }
  });
}

void run(const UnpoolProblem& p, const UnpoolArgs& args) {
  with_type(p.dtype, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Unpool, unpool_dgrad_ref) = {
    .algorithm = Algorithm::kRef, .why_not = takes_everything<UnpoolProblem>, .run = run};

}  // namespace fastconv
