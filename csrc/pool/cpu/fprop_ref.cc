// y[n,c,z,p,q] = mean over the window's inputs, by the definition, summed in double. Any layout, dtype and extents.
// Work is cut by output planes (n, c).

#include "core/cpu/ref.h"
#include "pool/pool.h"
#include "pool/window.h"

namespace fastconv {
namespace {

template <class T>
void run_typed(const PoolProblem& p, const PoolArgs& args) {
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.out);
  const Axes ax = axes_of(p.C, p.D, p.H, p.W, p.x_layout), ay = axes_of(p.C, p.Z, p.P, p.Q, p.y_layout);
  parallel_for(p.N * p.C, [&](int64_t plane) {
    const int64_t n = plane / p.C, c = plane % p.C;
    for (int64_t z = 0; z < p.Z; ++z)
      for (int64_t i = 0; i < p.P; ++i)
        for (int64_t j = 0; j < p.Q; ++j) {
          const PoolWindow d = window_of(depth_of(p), z), h = window_of(height_of(p), i), w = window_of(width_of(p), j);
          LongSum sum;
          for (int64_t at = d.inputs.begin; at < d.inputs.end; ++at)
            for (int64_t row = h.inputs.begin; row < h.inputs.end; ++row)
              for (int64_t column = w.inputs.begin; column < w.inputs.end; ++column)
                sum += read(x + ax.at(n, c, at, row, column));
          const int64_t divisor = divisor_of(p, d, h, w), index = ay.at(n, c, z, i, j);
          const double mean = divisor ? sum / static_cast<double>(divisor) : 0;
          write(finish<T>(mean, args.epilogue, c, index), y + index);
        }
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_type(p.dtype, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_fprop_ref) = {
    .algorithm = Algorithm::kRef, .why_not = takes_everything<PoolProblem>, .run = run};

}  // namespace fastconv
