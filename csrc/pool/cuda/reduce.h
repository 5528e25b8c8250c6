// What a window becomes on a GPU, input by input, kLanes at a time: a sum, a maximum, or a maximum and its place.
#pragma once

#include <cmath>

#include "core/cuda/epilogue.h"
#include "core/cuda/held.h"
#include "core/cuda/ptx_max.h"
#include "pool/pool.h"

namespace fastconv {
namespace {

/// Before the first input, where inputs come in any order.
constexpr int kNowhere = 0x7fffffff;

template <class Wide, int kCount>
struct Sum {
  using A = Wide;
  template <int kOther>
  using Of = Sum<A, kOther>;
  static constexpr int kLanes = kCount;
  static constexpr bool kIsSum = true, kIndexed = false;
  A value[kLanes];
  __device__ __forceinline__ void begin(int, int = 0) {
#pragma unroll
    for (A& one : value) one = 0;
  }
  __device__ __forceinline__ void see_lane(int lane, A x, int) { value[lane] += x; }
  __device__ __forceinline__ void merge_lane(int lane, A x, int) { value[lane] += x; }
};

/// The first of the largest, or the last NaN: each input is later than those seen before it.
template <class Wide, int kCount, bool kWithPlace>
struct Max {
  using A = Wide;
  template <int kOther>
  using Of = Max<A, kOther, kWithPlace>;
  static constexpr int kLanes = kCount;
  static constexpr bool kIsSum = false, kIndexed = kWithPlace;
  A value[kLanes];
  int place[kWithPlace ? kLanes : 1];
  /// Where nothing is larger than the least number there is, the first input is the maximum.
  __device__ __forceinline__ void begin(int first, int step = 0) {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      value[lane] = static_cast<A>(-INFINITY);
      if constexpr (kWithPlace) place[lane] = first + step * lane;
    }
  }
  __device__ __forceinline__ void see_lane(int lane, A x, int at) {
    const bool larger = x > value[lane] || x != x;
    value[lane] = larger ? x : value[lane];
    if constexpr (kWithPlace) place[lane] = larger ? at : place[lane];
  }
  /// Of inputs in any order.
  __device__ __forceinline__ void merge_lane(int lane, A x, int at) {
    if constexpr (kWithPlace) {
      const A best = value[lane];
      const bool larger = x != x ? best == best || at > place[lane] : x > best || (x == best && at < place[lane]);
      value[lane] = larger ? x : best;
      place[lane] = larger ? at : place[lane];
    } else {
      see_lane(lane, x, 0);
    }
  }
};

/// A maximum without its place, of 16-bit elements as they lie, two at a time: a sixth of the instructions.
template <class T, int kCount>
struct PackedMax {
  using A = float;
  static constexpr int kLanes = kCount;
  static constexpr bool kIsSum = false, kIndexed = false;
  Held<T, kLanes> words;
  __device__ __forceinline__ void begin(int) {
    constexpr uint32_t kLeast = std::is_same_v<T, BFloat16> ? 0xff80ff80u : 0xfc00fc00u;  // -inf
#pragma unroll
    for (uint32_t& word : words.at) word = kLeast;
  }
  __device__ __forceinline__ void see_words(const Held<T, kLanes>& other) {
#pragma unroll
    for (int i = 0; i < kLanes / 2; ++i) words.at[i] = ptx::max2_nan<T>(words.at[i], other.at[i]);
  }
  __device__ __forceinline__ Max<float, kLanes, false> widened() const {
    Max<float, kLanes, false> wide;
    widen_held<T>(words, wide.value);
    return wide;
  }
};
template <class Reduction>
constexpr bool kIsPacked = false;
template <class T, int kLanes>
constexpr bool kIsPacked<PackedMax<T, kLanes>> = true;

/// All lanes of a load, in the reduction's order, at one place or each at the next.
template <class T, int kStep = 0, class Reduction>
__device__ __forceinline__ void see(Reduction& all, const Held<T, Reduction::kLanes>& held, int place) {
  if constexpr (kIsPacked<Reduction>) {
    all.see_words(held);
  } else {
    typename Reduction::A x[Reduction::kLanes];
    widen_held<T>(held, x);
#pragma unroll
    for (int lane = 0; lane < Reduction::kLanes; ++lane) all.see_lane(lane, x[lane], place + kStep * lane);
  }
}

/// What a sum becomes. Of 16-bit results a quotient's last bit is rounded away, and eight divisions would take as long
/// as the sums.
template <class T, class Reduction>
__device__ __forceinline__ void divide(Reduction& all, typename Reduction::A by) {
  if constexpr (Reduction::kIsSum) {
    const auto inverse = 1 / by;
#pragma unroll
    for (auto& one : all.value) one = sizeof(T) == 2 ? one * inverse : one / by;
  }
}

/// The epilogue and the stores of channels c ... c + kLanes - 1 at elements `at` ... of y and of the indices, which lie
/// side by side.
template <class T, class Reduction>
__device__ __forceinline__ void finish_lanes(Reduction& all, const Epilogue& e, int c, int at, T* y, void* indices,
                                             bool index_in_window) {
  using A = typename Reduction::A;
  constexpr int kLanes = Reduction::kLanes;
  A(&value)[kLanes] = all.value;
  if (e.scale)
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) value[lane] *= static_cast<const A*>(e.scale)[c + lane];
  if (e.shift)
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) value[lane] += static_cast<const A*>(e.shift)[c + lane];
  if (e.residual)
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) value[lane] += widen(static_cast<const T*>(e.residual)[at + lane]);
  if (e.activation != Activation::kNone)
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) value[lane] = activate(value[lane], e.activation);
  if constexpr (kInWords<T, kLanes>) {
    store_pack(y + at, narrow_all<T>(value));
  } else {
    Pack<T, kLanes> pack;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) pack.at[lane] = narrow<T>(value[lane]);
    store_pack(y + at, pack);
  }
  if constexpr (Reduction::kIndexed) {
    if (index_in_window) {
      Pack<uint8_t, kLanes> pack;
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) pack.at[lane] = static_cast<uint8_t>(all.place[lane]);
      store_pack(static_cast<uint8_t*>(indices) + at, pack);
    } else {
      constexpr int kPair = kLanes == 1 ? 1 : 2;
#pragma unroll
      for (int lane = 0; lane < kLanes; lane += kPair) {
        Pack<int64_t, kPair> pack;
#pragma unroll
        for (int i = 0; i < kPair; ++i) pack.at[i] = all.place[lane + i];
        store_pack(static_cast<int64_t*>(indices) + at + lane, pack);
      }
    }
  }
}

/// Calls `body(T{}, kLanes)`: 16 bytes where `extent`, along which they lie, comes in such packs.
template <class Body>
void with_packs(const PoolProblem& p, int64_t extent, const Body& body) {
  with_element(p.dtype, [&](auto zero) {
    constexpr int kWide = kPackLanes<decltype(zero)>;
    if (extent % kWide == 0) body(zero, std::integral_constant<int, kWide>{});
    else body(zero, std::integral_constant<int, 1>{});
  });
}

/// Calls `body(Reduction{})` with what the call reduces kLanes windows of T to.
template <class T, int kLanes, class Body>
void with_reduction(const PoolProblem& p, const PoolArgs& args, const Body& body) {
  using A = Accumulator<T>;
  if (p.mode == PoolMode::kAvg) body(Sum<A, kLanes>{});
  else if (!args.index) body(Max<A, kLanes, false>{});
  else body(Max<A, kLanes, true>{});
}

}  // namespace
}  // namespace fastconv
