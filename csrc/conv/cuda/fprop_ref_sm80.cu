// y[n,k,z,p,q] = sum over c,t,r,s of x[n,c,z',p',q'] * w[k,c,t,r,s], with z' = z * stride - pad + t * dilation and so
// on.
//
// The definition, one thread an output. Any layout, dtype, stride, padding, dilation, groups.

#include "conv/cuda/ref.h"

namespace fastconv {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads)
    fprop_ref(ConvShape p, const T* __restrict__ x, Filter w, T* __restrict__ y, Epilogue epilogue) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= int64_t{1} * p.N * p.K * p.Z * p.P * p.Q) return;
  const Place at = place_of(index, p.K, p.Z, p.P, p.Q);
  const int g = at.c / p.K_per_group, k = at.c % p.K_per_group;
  Accumulator<T> sum = 0;
  for (int t = 0; t < p.T; ++t)
    for (int r = 0; r < p.R; ++r)
      for (int s = 0; s < p.S; ++s) {
        const int d = at.d * p.stride_d - p.pad_d + t * p.dilation_d;
        const int h = at.h * p.stride_h - p.pad_h + r * p.dilation_h;
        const int v = at.w * p.stride_w - p.pad_w + s * p.dilation_w;
        if (d < 0 || d >= p.D || h < 0 || h >= p.H || v < 0 || v >= p.W) continue;
        for (int c = 0; c < p.C_per_group; ++c)
          sum += widen(x[p.x.at(at.n, g * p.C_per_group + c, d, h, v)]) *
                 widen(static_cast<const T*>(w.data)[w.offset(g, k, c, t, r, s)]);
      }
  const int64_t out = p.y.at(at.n, at.c, at.d, at.h, at.w);
  y[out] = narrow<T>(finish<T>(sum, epilogue, at.c, out));
}

void run(const ConvProblem& p, const ConvArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("conv_fprop_ref_sm80", p, fprop_ref<T>, one_thread_each(p.y_elements(), args), shape_of(p),
           static_cast<const T*>(args.x), args.w, static_cast<T*>(args.out), args.epilogue);
  });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_ref_sm80) = {.algorithm = Algorithm::kRef, .why_not = too_large, .run = run};

}  // namespace fastconv
