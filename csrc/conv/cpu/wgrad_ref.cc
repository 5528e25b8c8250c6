// dw[k,c,t,r,s] = sum over n,z,p,q of dy[n,k,z,p,q] * x[n,c,z',p',q'], with z' = z * stride - pad + t * dilation.
//
// The definition, one weight after another, summed in double. Any problem. Work is cut by filters (k).

#include "conv/conv.h"
#include "core/cpu/ref.h"

namespace fastconv {
namespace {

template <class T>
void run_typed(const ConvProblem& p, const ConvArgs& args) {
  const T* x = static_cast<const T*>(args.x);
  const T* dy = static_cast<const T*>(args.dy);
  T* dw = static_cast<T*>(args.w.data);
  const Axes ax = axes_of(p.C, p.D, p.H, p.W, p.x_layout), ay = axes_of(p.K, p.Z, p.P, p.Q, p.y_layout);
  const int64_t taps = p.T * p.R * p.S;
  parallel_for(p.K, [&](int64_t k) {
    const int64_t g = k / p.K_per_group(), k_in = k % p.K_per_group();
    for (int64_t c = 0; c < p.C_per_group(); ++c)
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t t = tap / (p.R * p.S), r = tap / p.S % p.R, s = tap % p.S;
        LongSum sum;
        for (int64_t n = 0; n < p.N; ++n)
          for (int64_t z = 0; z < p.Z; ++z) {
            const int64_t d = z * p.stride_d - p.pad_d + t * p.dilation_d;
            if (d < 0 || d >= p.D) continue;
            for (int64_t i = 0; i < p.P; ++i) {
              const int64_t h = i * p.stride_h - p.pad_h + r * p.dilation_h;
              if (h < 0 || h >= p.H) continue;
              for (int64_t j = 0; j < p.Q; ++j) {
                const int64_t v = j * p.stride_w - p.pad_w + s * p.dilation_w;
                if (v < 0 || v >= p.W) continue;
                sum += read(dy + ay.at(n, k, z, i, j)) * read(x + ax.at(n, g * p.C_per_group() + c, d, h, v));
              }
            }
          }
        write(sum, dw + args.w.offset(g, k_in, c, t, r, s));
      }
  });
}

void run(const ConvProblem& p, const ConvArgs& args) {
  with_type(p.dtype, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_ref) = {.algorithm = Algorithm::kRef, .why_not = takes_everything, .run = run};

}  // namespace fastconv
