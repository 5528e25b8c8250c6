// dx[n,c,d,h,w] = sum over the outputs whose windows look at the input of dy / divisor, or of dy where the index is the
// input's.
//
// The definition, one thread an element of dx. Any layout, extents and window.

#include "pool/cuda/ref.h"

namespace fastconv {
namespace {

__device__ __forceinline__ int64_t read_index(const PoolProblem& p, const void* indices, int64_t at) {
  if (p.index == IndexType::kInt64) return static_cast<const int64_t*>(indices)[at];
  return static_cast<const uint8_t*>(indices)[at];
}

/// What input `i` has of output `o`.
template <class T>
__device__ __forceinline__ Accumulator<T> share_of(const PoolProblem& p, const Place& i, const Place& o, const T* dy,
                                                   const void* indices) {
  const PoolWindow d = window_of(depth_of(p), o.d), h = window_of(height_of(p), o.h), w = window_of(width_of(p), o.w);
  const int64_t t = tap_of(d, i.d), r = tap_of(h, i.h), s = tap_of(w, i.w);
  if (t < 0 || r < 0 || s < 0) return 0;
  const int64_t at = offset_of(o, p.C, p.Z, p.P, p.Q, p.y_layout);
  if (p.mode == PoolMode::kAvg) return widen(dy[at]) / static_cast<Accumulator<T>>(divisor_of(p, d, h, w));
  return index_of(p, d, t, h, r, w, s) == read_index(p, indices, at) ? widen(dy[at]) : 0;
}

template <class T>
__global__ void __launch_bounds__(kRefThreads)
    dgrad_ref(PoolProblem p, const T* __restrict__ dy, const void* __restrict__ indices, T* __restrict__ dx) {
  const int64_t index = int64_t{blockIdx.x} * kRefThreads + threadIdx.x;
  if (index >= p.N * p.C * p.D * p.H * p.W) return;
  const Place i = place_of(index, p.C, p.D, p.H, p.W);
  const PoolSpan zs = outputs_of(depth_of(p), i.d), is = outputs_of(height_of(p), i.h),
                 js = outputs_of(width_of(p), i.w);
  Accumulator<T> sum = 0;
  for (int64_t z = zs.begin; z < zs.end; ++z)
    for (int64_t row = is.begin; row < is.end; ++row)
      for (int64_t column = js.begin; column < js.end; ++column)
        sum += share_of(p, i, {i.n, i.c, z, row, column}, dy, indices);
  dx[offset_of(i, p.C, p.D, p.H, p.W, p.x_layout)] = narrow<T>(sum);
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("pool_dgrad_ref_sm80", p, dgrad_ref<T>, one_thread_each(p.x_elements(), args), p,
           static_cast<const T*>(args.dy), static_cast<const void*>(args.index), static_cast<T*>(args.out));
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_dgrad_ref_sm80) = {.algorithm = Algorithm::kRef, .why_not = why_not_numbers, .run = run};

}  // namespace fastconv
