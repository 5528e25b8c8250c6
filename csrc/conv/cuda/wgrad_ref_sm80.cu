// dw[k,c,t,r,s] = sum over n,z,p,q of dy[n,k,z,p,q] * x[n,c,d,h,w], d = z * stride - pad + t * dilation and so on.
//
// kShare lanes an element of dw: each takes every kShare-th pixel, and their sums are added in a fixed order. Any
// layout, dtype, stride, padding, dilation, groups.

#include "conv/cuda/ref.h"
#include "core/cuda/reduce.h"

namespace fastconv {
namespace {

constexpr int kShare = 8;

template <class T>
__global__ void __launch_bounds__(kThreads)
    wgrad_ref(ConvShape p, const T* __restrict__ x, const T* __restrict__ dy, Filter dw) {
  int64_t index = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kShare;
  const bool exists = index < int64_t{1} * p.K * p.C_per_group * p.T * p.R * p.S;
  const int s = static_cast<int>(index % p.S), r = static_cast<int>(index / p.S % p.R);
  const int t = static_cast<int>(index / p.S / p.R % p.T);
  index /= int64_t{1} * p.S * p.R * p.T;
  const int c = static_cast<int>(index % p.C_per_group), channel = static_cast<int>(index / p.C_per_group);
  const int g = channel / p.K_per_group;
  const int64_t pixels = exists ? int64_t{1} * p.N * p.Z * p.P * p.Q : 0;
  Accumulator<T> sum = 0;
  for (int64_t pixel = threadIdx.x % kShare; pixel < pixels; pixel += kShare) {
    const Place at = place_of(pixel, 1, p.Z, p.P, p.Q);
    const int d = at.d * p.stride_d - p.pad_d + t * p.dilation_d;
    const int h = at.h * p.stride_h - p.pad_h + r * p.dilation_h;
    const int v = at.w * p.stride_w - p.pad_w + s * p.dilation_w;
    if (d < 0 || d >= p.D || h < 0 || h >= p.H || v < 0 || v >= p.W) continue;
    sum += widen(dy[p.y.at(at.n, channel, at.d, at.h, at.w)]) * widen(x[p.x.at(at.n, g * p.C_per_group + c, d, h, v)]);
  }
  sum = warp_sum<kShare>(sum);
  if (exists && threadIdx.x % kShare == 0)
    static_cast<T*>(dw.data)[dw.offset(g, channel % p.K_per_group, c, t, r, s)] = narrow<T>(sum);
}

void run(const ConvProblem& p, const ConvArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("conv_wgrad_ref_sm80", p, wgrad_ref<T>, one_thread_each(p.w_elements() * kShare, args), shape_of(p),
           static_cast<const T*>(args.x), static_cast<const T*>(args.dy), args.w);
  });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_ref_sm80) = {.algorithm = Algorithm::kRef, .why_not = too_large, .run = run};

}  // namespace fastconv
