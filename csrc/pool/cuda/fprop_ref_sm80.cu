// y[n,c,z,p,q] = mean or maximum over the window's inputs.
//
// The definition, one thread an output. Any layout, dtype, extents and window.

#include "core/cuda/epilogue.h"
#include "pool/cuda/ref.h"

namespace fastconv {
namespace {

__device__ __forceinline__ void write_index(const PoolProblem& p, void* indices, int64_t at, int64_t index) {
  if (!indices) return;
  if (p.index == IndexType::kInt64) static_cast<int64_t*>(indices)[at] = index;
  else static_cast<uint8_t*>(indices)[at] = static_cast<uint8_t>(index);
}

template <class T>
__global__ void __launch_bounds__(kRefThreads) fprop_ref(PoolProblem p, const T* __restrict__ x, T* __restrict__ y,
                                                         void* __restrict__ indices, Epilogue epilogue) {
  const int64_t index = int64_t{blockIdx.x} * kRefThreads + threadIdx.x;
  if (index >= p.N * p.C * p.Z * p.P * p.Q) return;
  const Place o = place_of(index, p.C, p.Z, p.P, p.Q);
  const PoolWindow d = window_of(depth_of(p), o.d), h = window_of(height_of(p), o.h), w = window_of(width_of(p), o.w);
  Accumulator<T> sum = 0, largest = static_cast<Accumulator<T>>(-INFINITY);
  int64_t where = index_of(p, d, d.taps.begin, h, h.taps.begin, w, w.taps.begin);
  for (int64_t t = d.taps.begin; t < d.taps.end; ++t)
    for (int64_t r = h.taps.begin; r < h.taps.end; ++r)
      for (int64_t s = w.taps.begin; s < w.taps.end; ++s) {
        const Place i{o.n, o.c, d.input(t), h.input(r), w.input(s)};
        const Accumulator<T> value = widen(x[offset_of(i, p.C, p.D, p.H, p.W, p.x_layout)]);
        sum += value;
        if (value > largest || value != value) largest = value, where = index_of(p, d, t, h, r, w, s);
      }
  const int64_t at = offset_of(o, p.C, p.Z, p.P, p.Q, p.y_layout);
  const int64_t divisor = divisor_of(p, d, h, w);
  Accumulator<T> result = largest;
  if (p.mode == PoolMode::kAvg) result = divisor ? sum / static_cast<Accumulator<T>>(divisor) : 0;
  else write_index(p, indices, at, where);
  y[at] = narrow<T>(finish<T>(result, epilogue, static_cast<int>(o.c), at));
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("pool_fprop_ref_sm80", p, fprop_ref<T>, one_thread_each(p.y_elements(), args), p,
           static_cast<const T*>(args.x), static_cast<T*>(args.out), args.index, args.epilogue);
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_fprop_ref_sm80) = {.algorithm = Algorithm::kRef, .why_not = takes_everything, .run = run};

}  // namespace fastconv
