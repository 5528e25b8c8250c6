// dx[n,c,d,h,w] = sum over k,t,r,s of dy[n,k,z,p,q] * w[k,c,t,r,s] over the z, p, q with z * stride - pad + t *
// dilation = d and so on.
//
// The definition, one thread an element of dx. Any layout, dtype, stride, padding, dilation, groups.

#include "conv/cuda/ref.h"

namespace fastconv {
namespace {

/// The output that reads pixel `at` through a tap that lies `offset` behind; -1 where there is none.
__device__ __forceinline__ int output_of(int at, int offset, int stride, int outputs) {
  const int reach = at - offset;
  if (reach < 0 || reach % stride != 0) return -1;
  return reach / stride < outputs ? reach / stride : -1;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    dgrad_ref(ConvShape p, const T* __restrict__ dy, Filter w, T* __restrict__ dx, Epilogue epilogue) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= int64_t{1} * p.N * p.C * p.D * p.H * p.W) return;
  const Place at = place_of(index, p.C, p.D, p.H, p.W);
  const int g = at.c / p.C_per_group, c = at.c % p.C_per_group;
  Accumulator<T> sum = 0;
  for (int t = 0; t < p.T; ++t)
    for (int r = 0; r < p.R; ++r)
      for (int s = 0; s < p.S; ++s) {
        const int z = output_of(at.d, t * p.dilation_d - p.pad_d, p.stride_d, p.Z);
        const int i = output_of(at.h, r * p.dilation_h - p.pad_h, p.stride_h, p.P);
        const int j = output_of(at.w, s * p.dilation_w - p.pad_w, p.stride_w, p.Q);
        if (z < 0 || i < 0 || j < 0) continue;
        for (int k = 0; k < p.K_per_group; ++k)
          sum += widen(dy[p.y.at(at.n, g * p.K_per_group + k, z, i, j)]) *
                 widen(static_cast<const T*>(w.data)[w.offset(g, k, c, t, r, s)]);
      }
  const int64_t out = p.x.at(at.n, at.c, at.d, at.h, at.w);
  dx[out] = narrow<T>(finish<T>(sum, epilogue, at.c, out));
}

void run(const ConvProblem& p, const ConvArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("conv_dgrad_ref_sm80", p, dgrad_ref<T>, one_thread_each(p.x_elements(), args), shape_of(p),
           static_cast<const T*>(args.dy), args.w, static_cast<T*>(args.out), args.epilogue);
  });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_ref_sm80) = {.algorithm = Algorithm::kRef, .why_not = too_large, .run = run};

}  // namespace fastconv
