// y[n,c,z,p,q] = mean, maximum or sample of the window's inputs.
//
// The definition, one thread an output. Any layout, extents and window.

#include "core/cuda/epilogue.h"
#include "pool/cuda/ref.h"

namespace fastconv {
namespace {

__device__ __forceinline__ void write_index(const PoolProblem& p, void* indices, int64_t at, int64_t index) {
  if (!indices) return;
  if (p.index == IndexType::kInt64) static_cast<int64_t*>(indices)[at] = index;
  else static_cast<uint8_t*>(indices)[at] = static_cast<uint8_t>(index);
}

/// Calls `body(value, index)` for each input of output `o`'s window, in the order of the window.
template <class T, class Body>
__device__ __forceinline__ void for_each_input(const PoolProblem& p, const T* x, const Place& o, const PoolWindow& d,
                                               const PoolWindow& h, const PoolWindow& w, const Body& body) {
  for (int64_t t = d.taps.begin; t < d.taps.end; ++t)
    for (int64_t r = h.taps.begin; r < h.taps.end; ++r)
      for (int64_t s = w.taps.begin; s < w.taps.end; ++s) {
        const Place i{o.n, o.c, d.input(t), h.input(r), w.input(s)};
        body(widen(x[offset_of(i, p.C, p.D, p.H, p.W, p.x_layout)]), index_of(p, d, t, h, r, w, s));
      }
}

/// The input up to which the positive ones sum to more than `uniform` of all, else the last of them; `where` is the
/// window's first place, and stays it where none is drawn.
template <class T>
__device__ __forceinline__ Accumulator<T> drawn(const PoolProblem& p, const T* x, const Place& o, const PoolWindow& d,
                                                const PoolWindow& h, const PoolWindow& w, Accumulator<T> uniform,
                                                int64_t& where) {
  using A = Accumulator<T>;
  A total = 0, sum = 0, taken = 0;
  for_each_input(p, x, o, d, h, w, [&](A value, int64_t) { total += value > 0 || value != value ? value : A(0); });
  if (!(total - total == 0)) return total - total;
  bool open = true;
  for_each_input(p, x, o, d, h, w, [&](A value, int64_t index) {
    if (!open || !(value > 0)) return;
    taken = value, where = index;
    sum += value;
    open = !(sum > uniform * total);
  });
  return taken;
}

template <class T>
__global__ void __launch_bounds__(kRefThreads)
    fprop_ref(PoolProblem p, const T* __restrict__ x, const T* __restrict__ uniform, T* __restrict__ y,
              void* __restrict__ indices, Epilogue epilogue) {
  const int64_t index = int64_t{blockIdx.x} * kRefThreads + threadIdx.x;
  if (index >= p.N * p.C * p.Z * p.P * p.Q) return;
  const Place o = place_of(index, p.C, p.Z, p.P, p.Q);
  const PoolWindow d = window_of(depth_of(p), o.d), h = window_of(height_of(p), o.h), w = window_of(width_of(p), o.w);
  Accumulator<T> sum = 0, largest = static_cast<Accumulator<T>>(-INFINITY);
  int64_t where = index_of(p, d, d.taps.begin, h, h.taps.begin, w, w.taps.begin);
  for_each_input(p, x, o, d, h, w, [&](Accumulator<T> value, int64_t index) {
    sum += value;
    if (value > largest || value != value) largest = value, where = index;
  });
  const int64_t at = offset_of(o, p.C, p.Z, p.P, p.Q, p.y_layout);
  const int64_t divisor = divisor_of(p, d, h, w);
  Accumulator<T> result = largest;
  if (p.mode == PoolMode::kSto) {
    where = index_of(p, d, d.taps.begin, h, h.taps.begin, w, w.taps.begin);
    result = drawn(p, x, o, d, h, w, widen(uniform[at]), where);
  }
  if (p.mode == PoolMode::kAvg) result = divisor ? sum / static_cast<Accumulator<T>>(divisor) : 0;
  else write_index(p, indices, at, where);
  y[at] = narrow<T>(finish<T>(result, epilogue, static_cast<int>(o.c), at));
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("pool_fprop_ref_sm80", p, fprop_ref<T>, one_thread_each(p.y_elements(), args), p,
           static_cast<const T*>(args.x), static_cast<const T*>(args.uniform), static_cast<T*>(args.out), args.index,
           args.epilogue);
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_fprop_ref_sm80) = {.algorithm = Algorithm::kRef, .why_not = why_not_numbers, .run = run};

}  // namespace fastconv
