// dx[n,c,w] = dy[n,c] / W, or dy where the index says that the input was the maximum, the image being one window,
// images as they lie.
//
// A thread writes 16 bytes of dx, which may belong to several planes. The floor is the bytes of dx.

#include "pool/cuda/dgrad.h"
#include "pool/cuda/global.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) { return why_not_global(p, Layout::kNchw); }

template <class T, class Gather>
__global__ void __launch_bounds__(kGlobalThreads)
    dgrad_global(FastDivmod by_plane, int planes, int divisor, const T* __restrict__ dy,
                 const typename Gather::Index* __restrict__ indices, T* __restrict__ dx) {
  constexpr int kLanes = kPackLanes<T>;
  const int total = planes * by_plane.divisor();
  const int first = (static_cast<int>(blockIdx.x) * kGlobalThreads + static_cast<int>(threadIdx.x)) * kLanes;
  if (first >= total) return;
  int plane, place = 0;
  int w = by_plane.divmod(first, &plane);
  T value = {};
  const Accumulator<T> part = Accumulator<T>(1) / static_cast<Accumulator<T>>(divisor);
  const auto read_plane = [&] {
    value = dy[plane];
    if constexpr (Gather::kIndexed) place = static_cast<int>(indices[plane]);
    else value = narrow<T>(widen(value) * part);
  };
  read_plane();
  Pack<T, kLanes> pack;
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) {
    pack.at[lane] = !Gather::kIndexed || place == w ? value : narrow<T>(0);
    if (++w < by_plane.divisor()) continue;
    w = 0;
    if (++plane < planes) read_plane();
  }
  if (first + kLanes <= total) {
    store_pack(dx + first, pack);
  } else {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane)
      if (first + lane < total) dx[first + lane] = pack.at[lane];
  }
}

template <class T, class Gather>
void launch_dgrad_global(const PoolProblem& p, const PoolArgs& args) {
  constexpr int64_t kBlock = int64_t{kGlobalThreads} * kPackLanes<T>;
  launch("pool_dgrad_global_nchw_sm80", p, dgrad_global<T, Gather>,
         {.grid = {static_cast<unsigned>((p.x_elements() + kBlock - 1) / kBlock)},
          .block = {kGlobalThreads},
          .stream = args.stream},
         FastDivmod(static_cast<int>(p.W)), static_cast<int>(p.N * p.C), static_cast<int>(p.divisor ? p.divisor : p.W),
         static_cast<const T*>(args.dy), static_cast<const typename Gather::Index*>(args.index),
         static_cast<T*>(args.out));
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (p.mode == PoolMode::kAvg) launch_dgrad_global<T, Share>(p, args);
    else if (p.index == IndexType::kUInt8) launch_dgrad_global<T, Taken<uint8_t>>(p, args);
    else launch_dgrad_global<T, Taken<int64_t>>(p, args);
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_dgrad_global_nchw_sm80) = {.algorithm = Algorithm::kGlobal, .why_not = why_not, .run = run};

}  // namespace fastconv
