// dx[n,c,d,h,w] = sum over the outputs whose windows look at the input of dy / divisor, or of dy where the index is the
// input's, by the definition, in double. Any layout, dtype and extents. Work is cut by planes (n, c).

#include "core/cpu/ref.h"
#include "pool/pool.h"
#include "pool/window.h"

namespace fastconv {
namespace {

int64_t read_index(const PoolProblem& p, const PoolArgs& args, int64_t at) {
  if (p.index == IndexType::kInt64) return static_cast<const int64_t*>(args.index)[at];
  return static_cast<const uint8_t*>(args.index)[at];
}

template <class T>
void run_typed(const PoolProblem& p, const PoolArgs& args) {
  const T* dy = static_cast<const T*>(args.dy);
  T* dx = static_cast<T*>(args.out);
  const PoolAxis depth = depth_of(p), height = height_of(p), width = width_of(p);
  const Axes ax = axes_of(p.C, p.D, p.H, p.W, p.x_layout), ay = axes_of(p.C, p.Z, p.P, p.Q, p.y_layout);
  /// What input (d, h, w) has of output (z, i, j).
  const auto share = [&](int64_t n, int64_t c, const int64_t (&in)[3], const int64_t (&out)[3]) -> double {
    const PoolWindow a = window_of(depth, out[0]), b = window_of(height, out[1]), e = window_of(width, out[2]);
    const int64_t t = tap_of(a, in[0]), r = tap_of(b, in[1]), s = tap_of(e, in[2]);
    if (t < 0 || r < 0 || s < 0) return 0;
    const int64_t at = ay.at(n, c, out[0], out[1], out[2]);
    if (p.mode == PoolMode::kAvg) return read(dy + at) / static_cast<double>(divisor_of(p, a, b, e));
    return index_of(p, a, t, b, r, e, s) == read_index(p, args, at) ? read(dy + at) : 0;
  };
  parallel_for(p.N * p.C, [&](int64_t plane) {
    const int64_t n = plane / p.C, c = plane % p.C;
    for (int64_t d = 0; d < p.D; ++d)
      for (int64_t h = 0; h < p.H; ++h)
        for (int64_t w = 0; w < p.W; ++w) {
          const PoolSpan zs = outputs_of(depth, d), is = outputs_of(height, h), js = outputs_of(width, w);
          LongSum sum;
          for (int64_t z = zs.begin; z < zs.end; ++z)
            for (int64_t i = is.begin; i < is.end; ++i)
              for (int64_t j = js.begin; j < js.end; ++j) sum += share(n, c, {d, h, w}, {z, i, j});
          write(sum, dx + ax.at(n, c, d, h, w));
        }
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_type(p.dtype, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_dgrad_ref) = {.algorithm = Algorithm::kRef,
                                         .why_not = [](const PoolProblem& p) -> const char* {
                                           return is_integer(p.dtype) ? "whole numbers have no gradient" : nullptr;
                                         },
                                         .run = run};

}  // namespace fastconv
