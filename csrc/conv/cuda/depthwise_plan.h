// A depthwise problem along two axes, u and v, and how it is cut into blocks; what fprop, dgrad and wgrad share.
#pragma once

#include <algorithm>

#include "conv/cuda/shape.h"
#include "core/cuda/fast_divmod.h"
#include "core/cuda/held.h"
#include "core/cuda/launch.h"

namespace fastconv {
namespace {

constexpr int kDepthwiseThreads = 128;
/// A block keeps the filters of its channels within this many bytes of shared memory.
constexpr int kDepthwiseSharedBytes = 48 * 1024;
/// Blocks that keep the largest GPU busy: 132 multiprocessors, eight blocks each.
constexpr int64_t kDepthwiseBlocks = 132 * 8;

inline const char* why_not_depthwise(const ConvProblem& p, Layout layout) {
  if (const char* reason = too_large(p)) return reason;
  if (p.x_layout != layout || p.y_layout != layout)
    return layout == Layout::kNhwc ? "takes NHWC only" : "takes NCHW only";
  if (!p.is_2d()) return "takes two spatial axes";
  if (!p.is_depthwise() || p.K != p.C) return "takes one input and one output channel a group";
  if (p.R * p.S > 1024) return "takes filters of at most 1024 taps";
  return nullptr;
}

/// One spatial axis: what is read (`in`) and what is written (`out`).
struct DepthwiseAxis {
  int in, out, taps, stride, pad, dilation;
  FastDivmod divide;
};

struct DepthwiseStrides {
  int n, c, u, v;
};

struct DepthwisePlace {
  int n, block_c;  // of the block
  int v0;          // its first row
  int c, u, v;     // of the thread: pack of channels in the block, strip of the image, row in the step
};

inline int power_of_two_from(int least, int64_t wanted, int most) {
  int power = least;
  while (power < wanted && power < most) power *= 2;
  return power;
}

/// As kernels take it. A step of a block is c_count packs of channels by u_count strips by v_count rows.
struct Depthwise {
  int N, C;
  DepthwiseAxis u, v;
  DepthwiseStrides in, out;
  int64_t filter_c, filter_u, filter_v;
  bool channels_last;

  int c_count, u_count, v_count, tap_size, u_shift, v_phases, steps;
  int blocks_c, blocks_u, blocks_v;

  /// Cuts for strips of `strip` outputs of `lanes` channels. Strips begin where u + pad divides by `u_phases`.
  void tile(int strip, int lanes, size_t accumulator, bool transposed, int u_phases) {
    u_phases = std::max(u_phases, 1);
    u_shift = (u.pad % u_phases + u_phases) % u_phases;
    v_phases = transposed ? std::max(std::min(v.stride, v.out), 1) : 1;
    const int packs = (C + lanes - 1) / lanes, strips = (u.out + u_shift + strip - 1) / strip;
    const int rows = (v.out + v_phases - 1) / v_phases;
    if (channels_last) {
      // 128 bytes of channels, 32 outputs along W, and rows down H. Without 16-byte lanes, a warp of channels.
      const int most = lanes == 1 ? 32 : 8;
      c_count = power_of_two_from(1, packs, most);
      u_count = power_of_two_from(1, strips, std::min(kDepthwiseThreads / c_count, 4));
      v_count = kDepthwiseThreads / c_count / u_count;
    } else {
      v_count = power_of_two_from(1, rows, 32);
      u_count = power_of_two_from(1, strips, kDepthwiseThreads / v_count);
      c_count = kDepthwiseThreads / v_count / u_count;
    }
    const int taps = u.taps * v.taps;
    while (c_count > 1 && taps * c_count * lanes * static_cast<int>(accumulator) > kDepthwiseSharedBytes)
      c_count /= 2, v_count *= 2;
    tap_size = c_count * lanes;
    blocks_c = (packs + c_count - 1) / c_count;
    blocks_u = (strips + u_count - 1) / u_count;
    // A longer walk reads less twice, as long as there are blocks for every multiprocessor.
    int walk = 8;
    do blocks_v = (rows + v_count * walk - 1) / (v_count * walk);
    while (blocks() < kDepthwiseBlocks && (walk /= 2) > 0);
    walk = std::max(walk, 1);
    steps = walk * v_phases;
  }

  int64_t blocks() const { return int64_t{1} * blocks_c * blocks_u * blocks_v * N; }

  __device__ __forceinline__ DepthwisePlace place(int block, int thread) const {
    DepthwisePlace at;
    at.block_c = block % blocks_c, block /= blocks_c;
    at.u = block % blocks_u * u_count, block /= blocks_u;
    at.v0 = block % blocks_v * v_count * steps;
    at.n = block / blocks_v;
    if (channels_last) {
      at.c = thread & (c_count - 1), thread /= c_count;
      at.u += thread & (u_count - 1);
      at.v = thread / u_count;
    } else {
      at.v = thread & (v_count - 1), thread /= v_count;
      at.u += thread & (u_count - 1);
      at.c = thread / u_count;
    }
    return at;
  }

  /// The pixel that output `at` reads through tap `tap`; -1 where there is none.
  template <bool kTransposed>
  __device__ __forceinline__ int source(const DepthwiseAxis& axis, int at, int tap) const {
    if constexpr (kTransposed) {
      const int reach = at + axis.pad - tap * axis.dilation;
      if (reach < 0) return -1;
      int from;
      return axis.divide.divmod(reach, &from) == 0 && from < axis.in ? from : -1;
    } else {
      const int from = at * axis.stride - axis.pad + tap * axis.dilation;
      return from >= 0 && from < axis.in ? from : -1;
    }
  }

  __device__ __forceinline__ int64_t filter_offset(int c, int tap_u, int tap_v) const {
    return c * filter_c + tap_u * filter_u + tap_v * filter_v;
  }
};

/// The plan of `p` before it is cut.
inline Depthwise depthwise_of(const ConvProblem& p, Direction direction, const Filter& w) {
  const ConvShape s = shape_of(p);
  const bool last = p.x_layout == Layout::kNhwc, dgrad = direction == Direction::kDgrad;
  DepthwiseAxis along_h = {s.H, s.P, s.R, s.stride_h, s.pad_h, s.dilation_h, FastDivmod(s.stride_h)};
  DepthwiseAxis along_w = {s.W, s.Q, s.S, s.stride_w, s.pad_w, s.dilation_w, FastDivmod(s.stride_w)};
  if (dgrad) std::swap(along_h.in, along_h.out), std::swap(along_w.in, along_w.out);
  const ActivationStrides& in = dgrad ? s.y : s.x;
  const ActivationStrides& out = dgrad ? s.x : s.y;
  Depthwise d = {};
  d.N = s.N, d.C = s.C, d.channels_last = last;
  d.u = last ? along_w : along_h, d.v = last ? along_h : along_w;
  d.in = {in.n, in.c, last ? in.w : in.h, last ? in.h : in.w};
  d.out = {out.n, out.c, last ? out.w : out.h, last ? out.h : out.w};
  d.filter_c = w.stride_g;
  d.filter_u = last ? w.stride_s : w.stride_r, d.filter_v = last ? w.stride_r : w.stride_s;
  return d;
}

/// Lanes of a filter tap that lie side by side in shared memory: 16 bytes, so that neighbouring threads read
/// neighbouring 16 bytes.
template <class A, int kLanes>
constexpr int kTapLanes = kLanes < kPackLanes<A> ? kLanes : kPackLanes<A>;

/// Where lane `lane` of pack `c` lies in a tap of `c_count` packs.
template <class A, int kLanes>
__device__ __forceinline__ int tap_at(int c, int lane, int c_count) {
  constexpr int kSide = kTapLanes<A, kLanes>;
  return (lane / kSide * c_count + c) * kSide + lane % kSide;
}

/// The kLanes weights of the tap at `tap`, which `tap_at(c, 0)` has moved to the thread's pack.
template <int kLanes, class A>
__device__ __forceinline__ void read_tap(const A* tap, int c_count, A (&w)[kLanes]) {
  constexpr int kSide = kTapLanes<A, kLanes>;
#pragma unroll
  for (int lane = 0; lane < kLanes; lane += kSide) {
    const Pack<A, kSide> side = load_pack<kSide>(tap + lane * c_count);
#pragma unroll
    for (int i = 0; i < kSide; ++i) w[lane + i] = side.at[i];
  }
}

}  // namespace
}  // namespace fastconv
