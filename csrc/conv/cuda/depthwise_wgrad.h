// Depthwise wgrad: dw[c,r,s] = sum over n,p,q of dy[n,c,p,q] * x[n,c,p * stride - pad + r * dilation, ..].
//
// One pass over x and dy. A warp owns one row of taps (along u; `v` and `u` as in depthwise.h) of some channels and
// keeps all its sums in registers: kTaps * kLanes accumulators, 24 for 3x3 and 56 for 7x7 in bf16. The warps of a block
// are the rows of the filter on the same pixels, so that x and dy come from memory once and then from the L1. Lanes
// that share a channel add up by shuffles, in a fixed order; a block writes its sums to the workspace,
// [split][tap][channel] filled up to quads, and add_splits.h adds the splits. They depend on the problem alone.
//
// Floor: x and dy once, R * S multiply-adds a pixel of dy. Registers: 121 for 3x3 and 167 for 7x7 in bf16, 86 in NCHW.
// No shared memory.
#pragma once

#include "conv/cuda/add_splits.h"
#include "conv/cuda/depthwise_plan.h"

namespace fastconv {
namespace {

constexpr int kMostTapWarps = 8;

template <int kTaps, int kStride>
constexpr int kWgradStrip = kStride == 1 ? 8 : 4;

/// A depthwise wgrad cut for a launch. A unit is a strip of dy; a warp takes `units` units at once.
struct DepthwiseWgrad {
  Depthwise d;
  int strips, tap_warps, warps, tap_blocks, splits;
  int64_t all_units, units_per_split;
  FastDivmod by_fast, by_slow;  // strips and rows, or rows and strips: what neighbouring units differ in comes first

  /// `row`: taps of a warp, a row of the filter or 1.
  DepthwiseWgrad(const ConvProblem& p, int strip, int row, int lanes) : d(depthwise_of(p, Direction::kFprop, {})) {
    const int packs = (d.C + lanes - 1) / lanes;
    d.c_count = d.channels_last ? power_of_two_from(1, packs, lanes == 1 ? kWarpSize : 8) : 1;
    d.blocks_c = (packs + d.c_count - 1) / d.c_count;
    strips = (d.u.out + strip - 1) / strip;
    tap_warps = d.v.taps * (row == 1 ? d.u.taps : 1);
    warps = std::min(tap_warps, kMostTapWarps), tap_blocks = (tap_warps + warps - 1) / warps;
    by_fast = FastDivmod(std::max(d.channels_last ? strips : d.v.out, 1));
    by_slow = FastDivmod(std::max(d.channels_last ? d.v.out : strips, 1));
    all_units = int64_t{1} * d.N * d.v.out * strips;
    // 1024 threads for each of 132 multiprocessors, if every warp has at least four strips of each lane to add up.
    const int64_t units = kWarpSize / d.c_count, blocks = int64_t{1} * d.blocks_c * tap_blocks;
    const int64_t wanted = (132 * 1024 / (warps * kWarpSize) + blocks - 1) / blocks;
    splits = static_cast<int>(std::max<int64_t>(std::min(wanted, all_units / (units * 4)), 1));
    units_per_split = (all_units + splits - 1) / splits;
  }

  __host__ __device__ int taps() const { return d.u.taps * d.v.taps; }
  int64_t blocks() const { return int64_t{1} * splits * d.blocks_c * tap_blocks; }
  /// Of a split's sums; the last is filled up.
  __host__ __device__ int64_t quads() const { return (int64_t{1} * taps() * d.C + 3) / 4; }
  int64_t sums() const { return splits * quads() * 4; }
};

/// kTaps and kStride are those along u (dilation 1); 1 and 0 for any: then a warp owns a single tap.
template <class T, int kLanes, int kTaps, int kStride>
__global__ void __launch_bounds__(kMostTapWarps* kWarpSize, 1)
    depthwise_wgrad(DepthwiseWgrad plan, const T* __restrict__ x, const T* __restrict__ dy,
                    Accumulator<T>* __restrict__ sums) {
  using A = Accumulator<T>;
  constexpr int kStrip = kWgradStrip<kTaps, kStride>;
  constexpr int kColumns = kStride == 0 ? kStrip : (kStrip - 1) * kStride + kTaps;
  const Depthwise& d = plan.d;
  int block = static_cast<int>(blockIdx.x);
  const int block_c = block % d.blocks_c;
  block /= d.blocks_c;
  const int tap_warp = block % plan.tap_blocks * plan.warps + static_cast<int>(threadIdx.x) / kWarpSize;
  const int split = block / plan.tap_blocks;
  if (tap_warp >= plan.tap_warps) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int c = (block_c * d.c_count + lane % d.c_count) * kLanes;
  const int tap_v = kStride == 0 ? tap_warp / d.u.taps : tap_warp, tap_u = kStride == 0 ? tap_warp % d.u.taps : 0;
  const int stride = kStride == 0 ? d.u.stride : kStride;
  const int offset = tap_u * d.u.dilation - d.u.pad;

  A acc[kTaps][kLanes] = {};
  const int64_t begin = split * plan.units_per_split;
  const int64_t end = begin + plan.units_per_split < plan.all_units ? begin + plan.units_per_split : plan.all_units;
#pragma unroll 1
  for (int64_t unit = begin + lane / d.c_count; unit < end && c < d.C; unit += kWarpSize / d.c_count) {
    int rest, n;
    const int fast = plan.by_fast.divmod(static_cast<int>(unit), &rest);
    const int slow = plan.by_slow.divmod(rest, &n);
    const int v = d.channels_last ? slow : fast, u0 = (d.channels_last ? fast : slow) * kStrip;
    const int from = d.template source<false>(d.v, v, tap_v);
    if (from < 0) continue;
    const T* dy_row =
        dy + int64_t{1} * n * d.out.n + int64_t{1} * c * d.out.c + int64_t{1} * v * d.out.v + int64_t{1} * u0 * d.out.u;
    const T* x_row = x + int64_t{1} * n * d.in.n + int64_t{1} * c * d.in.c + int64_t{1} * from * d.in.v;
    const int first = u0 * stride + offset;
    const int64_t first_offset = int64_t{1} * first * d.in.u;
    Held<T, kLanes> pixels[kColumns], gradients[kStrip];
#pragma unroll
    for (int i = 0; i < kStrip; ++i)
      gradients[i] = load_inside<kLanes>(dy_row, int64_t{1} * i * d.out.u, u0 + i < d.u.out);
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const int ahead = kStride == 0 ? j * stride : j, at = first + ahead;
      pixels[j] = load_inside<kLanes>(x_row, first_offset + int64_t{1} * ahead * d.in.u, at >= 0 && at < d.u.in);
    }
    A g[kStrip][kLanes];
#pragma unroll
    for (int i = 0; i < kStrip; ++i) widen_held<T>(gradients[i], g[i]);
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      A pixel[kLanes];
      widen_held<T>(pixels[j], pixel);
#pragma unroll
      for (int i = 0; i < kStrip; ++i) {
        const int s = kStride == 0 ? j - i : j - i * kStride;
        if (s < 0 || s >= kTaps) continue;
#pragma unroll
        for (int k = 0; k < kLanes; ++k) acc[s][k] += g[i][k] * pixel[k];
      }
    }
  }
#pragma unroll
  for (int s = 0; s < kTaps; ++s)
#pragma unroll
    for (int k = 0; k < kLanes; ++k)
      for (int apart = kWarpSize / 2; apart >= d.c_count; apart /= 2)
        acc[s][k] += __shfl_xor_sync(kAllLanes, acc[s][k], apart);
  if (lane >= d.c_count || c >= d.C) return;
#pragma unroll
  for (int s = 0; s < kTaps; ++s) {
    A* const to = sums + split * plan.quads() * 4 + int64_t{1} * (tap_v * d.u.taps + tap_u + s) * d.C + c;
#pragma unroll
    for (int k = 0; k < kLanes; ++k) to[k] = acc[s][k];
  }
}

/// Writes quads of [tap][channel], which may end in other taps than they begin, and behind the last.
template <class Element>
struct WriteTaps {
  using T = Element;
  DepthwiseWgrad plan;
  Filter dw;

  __device__ __forceinline__ void operator()(int quad, const Pack<Accumulator<T>, 4>& sum) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int element = quad * 4 + i, c = element % plan.d.C, tap = element / plan.d.C;
      if (tap >= plan.taps()) return;
      const int u = tap % plan.d.u.taps, v = tap / plan.d.u.taps;
      const int r = plan.d.channels_last ? v : u, s = plan.d.channels_last ? u : v;
      static_cast<T*>(dw.data)[dw.offset(c, 0, 0, 0, r, s)] = narrow<T>(sum.at[i]);
    }
  }
};

/// What `body` gets: an instantiation by value.
template <int kLanesOf, int kTapsOf, int kStrideOf>
struct WgradChoice {
  static constexpr int kLanes = kLanesOf, kTaps = kTapsOf, kStride = kStrideOf;
};

/// Calls `body(T{}, WgradChoice)` for the instantiation that takes `p`.
template <Layout kLayout, class Body>
void with_wgrad(const ConvProblem& p, Body&& body) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kLanes = kLayout == Layout::kNhwc ? kPackLanes<T> : 1;
    const bool last = kLayout == Layout::kNhwc;
    const int64_t taps = last ? p.S : p.R, stride = last ? p.stride_w : p.stride_h;
    const int64_t dilation = last ? p.dilation_w : p.dilation_h;
    if (p.C % kLanes != 0) return body(zero, WgradChoice<1, 1, 0>{});
    if (dilation == 1 && stride == 1) {
      if (taps == 3) return body(zero, WgradChoice<kLanes, 3, 1>{});
      if (taps == 5) return body(zero, WgradChoice<kLanes, 5, 1>{});
      if (taps == 7) return body(zero, WgradChoice<kLanes, 7, 1>{});
    }
    if (dilation == 1 && stride == 2) {
      if (taps == 3) return body(zero, WgradChoice<kLanes, 3, 2>{});
      if (taps == 5) return body(zero, WgradChoice<kLanes, 5, 2>{});
      if (taps == 7) return body(zero, WgradChoice<kLanes, 7, 2>{});
    }
    body(zero, WgradChoice<kLanes, 1, 0>{});
  });
}

template <class Choice>
DepthwiseWgrad wgrad_plan(const ConvProblem& p, Choice) {
  return DepthwiseWgrad(p, kWgradStrip<Choice::kTaps, Choice::kStride>, Choice::kTaps, Choice::kLanes);
}

template <Layout kLayout>
size_t depthwise_wgrad_workspace(const ConvProblem& p) {
  size_t bytes = 0;
  with_wgrad<kLayout>(p, [&](auto zero, auto choice) {
    bytes = static_cast<size_t>(wgrad_plan(p, choice).sums()) * sizeof(Accumulator<decltype(zero)>);
  });
  return bytes;
}

template <Layout kLayout>
void run_depthwise_wgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  with_wgrad<kLayout>(p, [&](auto zero, auto choice) {
    using T = decltype(zero);
    using Choice = decltype(choice);
    using A = Accumulator<T>;
    const DepthwiseWgrad plan = wgrad_plan(p, choice);
    A* sums = static_cast<A*>(args.workspace);
    launch(name, p, depthwise_wgrad<T, Choice::kLanes, Choice::kTaps, Choice::kStride>,
           {.grid = {static_cast<unsigned>(plan.blocks())},
            .block = {static_cast<unsigned>(plan.warps * kWarpSize)},
            .stream = args.stream},
           plan, static_cast<const T*>(args.x), static_cast<const T*>(args.dy), sums);
    launch_add_splits(name, p, args, plan.splits, plan.quads(), WriteTaps<T>{plan, args.w});
  });
}

}  // namespace
}  // namespace fastconv
