// y[n,k,z,p,q] = sum over c,t,r,s of x[n,c,z',p',q'] * w[k,c,t,r,s], with z' = z * stride - pad + t * dilation and so
// on.
//
// The definition, one output after another, summed in double. Any layout, dtype, stride, padding, dilation, groups.
// Work is cut by output planes (n, k).

#include "conv/conv.h"
#include "core/cpu/ref.h"

namespace fastconv {
namespace {

template <class T>
void run_typed(const ConvProblem& p, const ConvArgs& args) {
  const T* x = static_cast<const T*>(args.x);
  const T* w = static_cast<const T*>(args.w.data);
  T* y = static_cast<T*>(args.out);
  const Axes ax = axes_of(p.C, p.D, p.H, p.W, p.x_layout), ay = axes_of(p.K, p.Z, p.P, p.Q, p.y_layout);
  parallel_for(p.N * p.K, [&](int64_t plane) {
    const int64_t n = plane / p.K, k = plane % p.K;
    const int64_t g = k / p.K_per_group(), k_in = k % p.K_per_group();
    for (int64_t z = 0; z < p.Z; ++z)
      for (int64_t i = 0; i < p.P; ++i)
        for (int64_t j = 0; j < p.Q; ++j) {
          LongSum sum;
          for (int64_t t = 0; t < p.T; ++t)
            for (int64_t r = 0; r < p.R; ++r)
              for (int64_t s = 0; s < p.S; ++s) {
                const int64_t d = z * p.stride_d - p.pad_d + t * p.dilation_d;
                const int64_t h = i * p.stride_h - p.pad_h + r * p.dilation_h;
                const int64_t v = j * p.stride_w - p.pad_w + s * p.dilation_w;
                if (d < 0 || d >= p.D || h < 0 || h >= p.H || v < 0 || v >= p.W) continue;
                for (int64_t c = 0; c < p.C_per_group(); ++c)
                  sum += read(x + ax.at(n, g * p.C_per_group() + c, d, h, v)) *
                         read(w + args.w.offset(g, k_in, c, t, r, s));
              }
          const int64_t index = ay.at(n, k, z, i, j);
          write(finish<T>(sum, args.epilogue, k, index), y + index);
        }
  });
}

void run(const ConvProblem& p, const ConvArgs& args) {
  with_type(p.dtype, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_ref) = {.algorithm = Algorithm::kRef, .why_not = takes_everything, .run = run};

}  // namespace fastconv
