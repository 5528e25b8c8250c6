// The gradient of a pooling by windows: a thread has kLanes channels of some inputs and gathers from the outputs whose
// windows look at them, so that no two threads write one place.
//
// Windows of kTaps x kTaps at steps of kStride: a thread has the kStride x kStride inputs that begin where a window
// does. Which output looks at which of them, and by which tap, is then known at compile time, and an output that
// several of them need is read once: 3x3/2 asks 4 outputs for 4 inputs. Others (kTaps = 0) have one input a thread and
// loops. NHWC: kLanes are 16 bytes, neighbouring threads take neighbouring channels. NCHW: kLanes is 1, neighbouring
// threads take neighbouring columns.
//
// Floor: dx, dy and the indices once.
#pragma once

#include "core/cuda/held.h"
#include "pool/cuda/reduce.h"
#include "pool/cuda/tile.h"

namespace fastconv {
namespace {

/// A mean's share.
struct Share {
  static constexpr bool kIndexed = false, kInWindow = false;
  using Index = uint8_t;  // of none
};
/// All of it where the maximum was the input, else nothing.
template <class T>
struct Taken {
  static constexpr bool kIndexed = true, kInWindow = std::is_same_v<T, uint8_t>;
  using Index = T;
};

/// One output's gradients, and which inputs they go to.
template <class T, int kLanes, class Gather>
struct Output {
  Held<T, kLanes> dy;
  int place[Gather::kIndexed ? kLanes : 1];

  __device__ __forceinline__ Output(const T* __restrict__ from, const typename Gather::Index* __restrict__ indices,
                                    int at, bool inside) {
    dy = load_inside<kLanes>(from, at, inside);
    if constexpr (Gather::kInWindow) {
      using Word =
          std::conditional_t<kLanes % 4 == 0, uint32_t, uint8_t>;  // bytes under a condition would be moved singly
      constexpr int kBytes = sizeof(Word);
      using Words = Pack<Word, kLanes / kBytes>;
      const Words words = inside ? load_as<Words>(indices + at) : Words{};
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) place[lane] = words.at[lane / kBytes] >> 8 * (lane % kBytes) & 255;
    } else if constexpr (Gather::kIndexed) {
      constexpr int kPair = kLanes == 1 ? 1 : 2;
#pragma unroll
      for (int lane = 0; lane < kLanes; lane += kPair) {
        const auto pair = inside ? load_pack<kPair>(indices + at + lane) : Pack<int64_t, kPair>{};
#pragma unroll
        for (int i = 0; i < kPair; ++i) place[lane + i] = static_cast<int>(pair.at[i]);
      }
    }
  }

  /// Adds what the input at `at` has of it.
  __device__ __forceinline__ void add_to(Accumulator<T> (&sum)[kLanes], int at, Accumulator<T> part) const {
    Accumulator<T> x[kLanes];
    widen_held<T>(dy, x);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      if constexpr (!Gather::kIndexed) sum[lane] += x[lane] * part;
      else if (place[lane] == at) sum[lane] += x[lane];
    }
  }
};

/// What one output of a mean gives to each of its inputs.
template <class A>
__device__ __forceinline__ A part_of(const PoolShape& p, const Taps& d, int i, int j) {
  return A(1) / p.divisor_of<A>(d, p.h.window(i), p.w.window(j));
}

/// The outputs of depth z, for the kStride x kStride inputs from (h0, w0) on, which is where window (a, b) begins. `t`
/// is the tap of depth.
template <class T, int kLanes, int kTaps, int kStride, class Gather>
__device__ __forceinline__ void gather(const PoolShape& p, const T* __restrict__ dy,
                                       const typename Gather::Index* __restrict__ indices, const PoolPlace& in, int z,
                                       int t, int c, Accumulator<T> (&sum)[kStride][kStride][kLanes]) {
  constexpr int kReach = (kTaps + kStride - 1) / kStride;
  const int base = p.y.at(in.n, c, z, 0, 0), h0 = in.h * kStride - p.h.pad, w0 = in.w * kStride - p.w.pad;
  const Taps d = p.d.window(z);
#pragma unroll
  for (int reach_h = 0; reach_h < kReach; ++reach_h)
#pragma unroll
    for (int reach_w = 0; reach_w < kReach; ++reach_w) {
      const int i = in.h - reach_h, j = in.w - reach_w;
      const bool inside = i >= 0 && i < p.h.out && j >= 0 && j < p.w.out;
      const Output<T, kLanes, Gather> output(dy, indices, base + i * p.y.h + j * p.y.w, inside);
      const auto part = Gather::kIndexed ? 0 : part_of<Accumulator<T>>(p, d, i, j);
#pragma unroll
      for (int row = 0; row < kStride; ++row)
#pragma unroll
        for (int column = 0; column < kStride; ++column) {
          const int r = row + reach_h * kStride, s = column + reach_w * kStride;
          if (r >= kTaps || s >= kTaps) continue;
          const int place =
              Gather::kInWindow ? (t * kTaps + r) * kTaps + s : (in.d * p.h.in + h0 + row) * p.w.in + w0 + column;
          output.add_to(sum[row][column], place, part);
        }
    }
}

/// The same for one input and any window.
template <class T, int kLanes, class Gather>
__device__ __forceinline__ void gather_any(const PoolShape& p, const T* __restrict__ dy,
                                           const typename Gather::Index* __restrict__ indices, const PoolPlace& in,
                                           int z, int t, int c, Accumulator<T> (&sum)[1][1][kLanes]) {
  const Reach is = p.h.outputs(in.h), js = p.w.outputs(in.w);
  const int base = p.y.at(in.n, c, z, 0, 0), flat = (in.d * p.h.in + in.h) * p.w.in + in.w;
  const Taps d = p.d.window(z);
#pragma unroll 1
  for (int i = is.begin; i < is.end; ++i) {
    const int r = p.h.tap(i, in.h);
    if (r < 0) continue;
#pragma unroll 2
    for (int j = js.begin; j < js.end; ++j) {
      const int s = p.w.tap(j, in.w);
      if (s < 0) continue;
      const Output<T, kLanes, Gather> output(dy, indices, base + i * p.y.h + j * p.y.w, true);
      const int place = Gather::kInWindow ? (t * p.h.taps + r) * p.w.taps + s : flat;
      output.add_to(sum[0][0], place, Gather::kIndexed ? 0 : part_of<Accumulator<T>>(p, d, i, j));
    }
  }
}

template <class T, int kLanes>
__device__ __forceinline__ void store_lanes(const Accumulator<T> (&sum)[kLanes], T* to) {
  if constexpr (kInWords<T, kLanes>) {
    store_pack(to, narrow_all<T>(sum));
  } else {
    Pack<T, kLanes> pack;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) pack.at[lane] = narrow<T>(sum[lane]);
    store_pack(to, pack);
  }
}

template <class T, int kLanes, int kTaps, int kStride, class Gather>
__global__ void __launch_bounds__(kPoolThreads, 4)
    dgrad_direct(const __grid_constant__ PoolShape p, const __grid_constant__ PoolTile tile, const T* __restrict__ dy,
                 const typename Gather::Index* __restrict__ indices, T* __restrict__ dx) {
  const PoolPlace at = tile.place(static_cast<int>(blockIdx.x), static_cast<int>(threadIdx.x));
  const int c = at.c * kLanes, pad_h = kTaps ? p.h.pad : 0, pad_w = kTaps ? p.w.pad : 0;
  const int h0 = at.h * kStride - pad_h, w0 = at.w * kStride - pad_w;
  if (c >= p.C || h0 >= p.h.in || w0 >= p.w.in) return;
  Accumulator<T> sum[kStride][kStride][kLanes] = {};
  const Reach zs = p.d.outputs(at.d);
#pragma unroll 1
  for (int z = zs.begin; z < zs.end; ++z) {
    const int t = p.d.tap(z, at.d);
    if (t < 0) continue;
    if constexpr (kTaps > 0) gather<T, kLanes, kTaps, kStride, Gather>(p, dy, indices, at, z, t, c, sum);
    else gather_any<T, kLanes, Gather>(p, dy, indices, at, z, t, c, sum);
  }
#pragma unroll
  for (int row = 0; row < kStride; ++row)
#pragma unroll
    for (int column = 0; column < kStride; ++column) {
      const int h = h0 + row, w = w0 + column;
      if (h >= 0 && h < p.h.in && w >= 0 && w < p.w.in)
        store_lanes<T>(sum[row][column], dx + p.x.at(at.n, c, at.d, h, w));
    }
}

template <class T, int kLanes, int kTaps, int kStride, class Gather>
void launch_dgrad(const char* name, const PoolProblem& p, const PoolArgs& args) {
  const auto squares = [](int64_t in, int64_t pad) { return kTaps && in ? (in - 1 + pad) / kStride + 1 : in; };
  const PoolTile tile(p.N, (p.C + kLanes - 1) / kLanes, p.D, squares(p.H, p.pad_h), squares(p.W, p.pad_w),
                      p.x_layout == Layout::kNhwc, kMostPacks<kLanes>);
  launch(name, p, dgrad_direct<T, kLanes, kTaps, kStride, Gather>, tile.launch_on(args.stream), shape_of(p), tile,
         static_cast<const T*>(args.dy), static_cast<const typename Gather::Index*>(args.index),
         static_cast<T*>(args.out));
}

/// kUnrolled: whether the usual windows have kernels of their own.
template <class T, int kLanes, bool kUnrolled>
void run_dgrad(const char* name, const PoolProblem& p, const PoolArgs& args) {
  const bool square = !p.adaptive && p.R == p.S && p.stride_h == p.stride_w && p.dilation_h == 1 && p.dilation_w == 1 &&
                      p.pad_h < p.R && p.pad_w < p.S;
  const auto is = [&](int64_t taps, int64_t stride) { return square && p.R == taps && p.stride_h == stride; };
  const auto by = [&](auto gather) {
    using Gather = decltype(gather);
    if constexpr (kUnrolled && !std::is_same_v<T, double>) {
      if (is(2, 2)) return launch_dgrad<T, kLanes, 2, 2, Gather>(name, p, args);
      if (is(3, 2)) return launch_dgrad<T, kLanes, 3, 2, Gather>(name, p, args);
      if (is(3, 1)) return launch_dgrad<T, kLanes, 3, 1, Gather>(name, p, args);
    }
    launch_dgrad<T, kLanes, 0, 1, Gather>(name, p, args);
  };
  if (p.mode == PoolMode::kAvg) by(Share{});
  else if (p.index == IndexType::kUInt8) by(Taken<uint8_t>{});
  else by(Taken<int64_t>{});
}

}  // namespace
}  // namespace fastconv
