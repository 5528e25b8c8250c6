// Pooling by windows: a thread has kLanes channels of one output, whose window it walks.
//
// NHWC: kLanes are 16 bytes, neighbouring threads take neighbouring channels. NCHW: kLanes is 1, neighbouring threads
// take neighbouring columns. A block's outputs form a tile (tile.h), so that all but the newest inputs of a window come
// from the L1. Windows of 2x2 and 3x3 (kTaps) have all loads of a slice in flight; others (kTaps = 0) are loops.
//
// Floor: x, y and the indices once. A maximum's load at a tap outside the image is that of the window's nearest inside,
// which changes neither value nor index: no lane needs to be set to -inf.
#pragma once

#include "pool/cuda/reduce.h"
#include "pool/cuda/tile.h"

namespace fastconv {
namespace {

__device__ __forceinline__ int clamp_to(int tap, const Taps& taps) {
  return tap < taps.begin ? taps.begin : tap >= taps.end ? taps.end - 1 : tap;
}

/// Maxima of a window's 16-bit elements and their places: the largest two by two, then the first place that has it.
/// That is three instructions an element, where comparing values one after another is five. False, and nothing done,
/// where one is NaN.
template <class T, int kTaps, class Reduction>
__device__ __forceinline__ bool see_square(const Held<T, Reduction::kLanes> (&held)[kTaps][kTaps],
                                           const int (&places)[kTaps][kTaps], Reduction& all) {
  constexpr int kLanes = Reduction::kLanes;
  PackedMax<T, kLanes> packed{held[0][0]};
#pragma unroll
  for (int i = 1; i < kTaps * kTaps; ++i) packed.see_words(held[i / kTaps][i % kTaps]);
  const auto largest = packed.widened();
  bool is_number = true;
#pragma unroll
  for (float value : largest.value) is_number = is_number && value == value;
  if (!is_number) return false;
  int place[kLanes] = {};
#pragma unroll
  for (int i = kTaps * kTaps - 1; i >= 0; --i) {
    float x[kLanes];
    widen_held<T>(held[i / kTaps][i % kTaps], x);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane)
      place[lane] = x[lane] == largest.value[lane] ? places[i / kTaps][i % kTaps] : place[lane];
  }
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) all.see_lane(lane, largest.value[lane], place[lane]);
  return true;
}

/// A window's taps of one depth: `x` is the image's corner there, `place` the number of tap (0, 0).
template <class T, int kTaps, class Reduction>
__device__ __forceinline__ void walk(const PoolShape& p, const Taps& h, const Taps& w, const T* __restrict__ x,
                                     int place, Reduction& all) {
  constexpr int kLanes = Reduction::kLanes;
  const int place_r = p.index_in_window ? p.w.taps : h.step * p.w.in, place_s = p.index_in_window ? 1 : w.step;
  if constexpr (kTaps > 0) {
    Held<T, kLanes> held[kTaps][kTaps];
    int rows[kTaps], columns[kTaps], places[kTaps][kTaps];
#pragma unroll
    for (int i = 0; i < kTaps; ++i) {
      rows[i] = Reduction::kIsSum ? i : clamp_to(i, h);
      columns[i] = Reduction::kIsSum ? i : clamp_to(i, w);
    }
#pragma unroll
    for (int r = 0; r < kTaps; ++r)
#pragma unroll
      for (int s = 0; s < kTaps; ++s) {
        const bool inside = !Reduction::kIsSum || (r >= h.begin && r < h.end && s >= w.begin && s < w.end);
        held[r][s] = load_inside<kLanes>(x, h.input(rows[r]) * p.x.h + w.input(columns[s]) * p.x.w, inside);
        places[r][s] = place + rows[r] * place_r + columns[s] * place_s;
      }
    if constexpr (Reduction::kIndexed && kInWords<T, kLanes>) {
      if (!see_square<T>(held, places, all)) walk<T, 0>(p, h, w, x, place, all);
    } else {
#pragma unroll
      for (int i = 0; i < kTaps * kTaps; ++i) see<T>(all, held[i / kTaps][i % kTaps], places[i / kTaps][i % kTaps]);
    }
  } else {
    for (int r = h.begin; r < h.end; ++r)
#pragma unroll 4
      for (int s = w.begin; s < w.end; ++s)
        see<T>(all, load_inside<kLanes>(x, h.input(r) * p.x.h + w.input(s) * p.x.w, true),
               place + r * place_r + s * place_s);
  }
}

/// 5 blocks a multiprocessor: 102 registers hold a window of 3x3 packs (36) and its results.
template <class T, int kTaps, class Reduction>
__global__ void __launch_bounds__(kPoolThreads, 5)
    fprop_direct(const __grid_constant__ PoolShape p, const __grid_constant__ PoolTile tile, const T* __restrict__ x,
                 T* __restrict__ y, void* __restrict__ indices, const __grid_constant__ Epilogue epilogue) {
  const PoolPlace at = tile.place(static_cast<int>(blockIdx.x), static_cast<int>(threadIdx.x));
  const int c = at.c * Reduction::kLanes;
  if (c >= p.C || at.h >= p.h.out || at.w >= p.w.out) return;
  const Taps d = p.d.window(at.d), h = p.h.window(at.h), w = p.w.window(at.w);
  const bool in_window = p.index_in_window;
  const int image = p.h.in * p.w.in, taps = p.h.taps * p.w.taps;
  const int first = in_window ? 0 : h.first * p.w.in + w.first;
  const auto place_of = [&](int t) { return first + (in_window ? t * taps : d.input(t) * image); };
  Reduction all;
  all.begin(place_of(d.begin) +
            (in_window ? h.begin * p.w.taps + w.begin : h.step * h.begin * p.w.in + w.step * w.begin));
  if (h.begin < h.end && w.begin < w.end) {
#pragma unroll 1
    for (int t = d.begin; t < d.end; ++t)
      walk<T, kTaps>(p, h, w, x + p.x.at(at.n, c, d.input(t), 0, 0), place_of(t), all);
  }
  const int to = p.y.at(at.n, c, at.d, at.h, at.w);
  if constexpr (kIsPacked<Reduction>) {
    auto wide = all.widened();
    finish_lanes(wide, epilogue, c, to, y, indices, in_window);
  } else {
    divide<T>(all, p.divisor_of<typename Reduction::A>(d, h, w));
    finish_lanes(all, epilogue, c, to, y, indices, in_window);
  }
}

template <class T, int kTaps, class Reduction>
void launch_direct(const char* name, const PoolProblem& p, const PoolArgs& args) {
  constexpr int kLanes = Reduction::kLanes;
  const PoolTile tile(p.N, (p.C + kLanes - 1) / kLanes, p.Z, p.P, p.Q, p.y_layout == Layout::kNhwc, kMostPacks<kLanes>);
  launch(name, p, fprop_direct<T, kTaps, Reduction>, tile.launch_on(args.stream), shape_of(p), tile,
         static_cast<const T*>(args.x), static_cast<T*>(args.out), args.index, args.epilogue);
}

/// kUnrolled: whether windows of 2x2 and 3x3 have kernels of their own.
template <class T, int kLanes, bool kUnrolled>
void run_direct(const char* name, const PoolProblem& p, const PoolArgs& args) {
  const int64_t taps = !p.adaptive && p.R == p.S ? p.R : 0;
  with_reduction<T, kLanes>(p, args, [&](auto reduction) {
    using Given = decltype(reduction);
    constexpr bool kPacks = kInWords<T, kLanes> && !Given::kIsSum && !Given::kIndexed;
    using Reduction = std::conditional_t<kPacks, PackedMax<T, kLanes>, Given>;
    if constexpr (kUnrolled && !std::is_same_v<T, double>) {
      if (taps == 2) return launch_direct<T, 2, Reduction>(name, p, args);
      if (taps == 3) return launch_direct<T, 3, Reduction>(name, p, args);
    }
    launch_direct<T, 0, Reduction>(name, p, args);
  });
}

}  // namespace
}  // namespace fastconv
