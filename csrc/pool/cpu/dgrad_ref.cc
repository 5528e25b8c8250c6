// dx[n,c,d,h,w] = sum of dy / divisor over the outputs whose windows look at the input, by the definition, in double.
// Any layout, dtype and extents. Work is cut by planes (n, c).

#include "core/cpu/ref.h"
#include "pool/pool.h"
#include "pool/window.h"

namespace fastconv {
namespace {

template <class T>
void run_typed(const PoolProblem& p, const PoolArgs& args) {
  const T* dy = static_cast<const T*>(args.dy);
  T* dx = static_cast<T*>(args.out);
  const PoolAxis depth = depth_of(p), height = height_of(p), width = width_of(p);
  const Axes ax = axes_of(p.C, p.D, p.H, p.W, p.x_layout), ay = axes_of(p.C, p.Z, p.P, p.Q, p.y_layout);
  parallel_for(p.N * p.C, [&](int64_t plane) {
    const int64_t n = plane / p.C, c = plane % p.C;
    for (int64_t d = 0; d < p.D; ++d)
      for (int64_t h = 0; h < p.H; ++h)
        for (int64_t w = 0; w < p.W; ++w) {
          const PoolSpan zs = outputs_of(depth, d), is = outputs_of(height, h), js = outputs_of(width, w);
          LongSum sum;
          for (int64_t z = zs.begin; z < zs.end; ++z)
            for (int64_t i = is.begin; i < is.end; ++i)
              for (int64_t j = js.begin; j < js.end; ++j)
                sum +=
                    read(dy + ay.at(n, c, z, i, j)) /
                    static_cast<double>(divisor_of(p, window_of(depth, z), window_of(height, i), window_of(width, j)));
          write(sum, dx + ax.at(n, c, d, h, w));
        }
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_type(p.dtype, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_dgrad_ref) = {
    .algorithm = Algorithm::kRef, .why_not = takes_everything<PoolProblem>, .run = run};

}  // namespace fastconv
