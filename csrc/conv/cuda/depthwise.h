// Depthwise fprop and dgrad: every channel has a filter of its own.
//
//   fprop  out[n,c,p,q] = sum over r,s of in[n,c,p * stride - pad + r * dilation, ..] * w[c,r,s]
//   dgrad  out[n,c,h,w] = sum over r,s of in[n,c,(h + pad - r * dilation) / stride, ..] * w[c,r,s], where it divides
//
// A thread owns `kLanes` channels and a strip of `kStrip` outputs along one axis, `u`; along the other, `v`, it takes
// rows one after another. For each row of taps it reads the strip's pixels once, converts each once, and multiplies it
// into all outputs it reaches. NHWC: u is W and kLanes are 16 bytes, neighbouring threads take neighbouring channels.
// NCHW: u is H, kLanes is 1, neighbouring threads take neighbouring columns. So every load is a full line.
//
// Floor: in and out once, R * S multiply-adds an output; 3x3 is bound by memory, 7x7 by arithmetic. Rows that outputs
// share come from the L1: a block's threads form a tile of strips by rows. Weights lie in shared memory as
// accumulators (R * S * 64 channels * 4 bytes for bf16: 2 to 12 KB), a row of taps at a time in registers.
// Registers: 152 for 3x3 in bf16 (three blocks a multiprocessor) and 187 for 7x7 (two); float32 110 to 128, NCHW up to
// 80. All loads of a row are in flight at once: 10 of 16 bytes a thread for 3x3.
#pragma once

#include "conv/cuda/depthwise_plan.h"
#include "core/cuda/epilogue.h"
#include "core/cuda/number.h"

namespace fastconv {
namespace {

/// Outputs of a thread: with stride 2, two columns are read for one output.
template <int kTaps, int kStride, bool kTransposed>
constexpr int kStripOf = kTaps == 0 || (kStride == 2 && !kTransposed) ? 4 : 8;

/// Columns read for a strip. kBefore: those that lie before the strip's first.
template <int kTaps, int kStride, bool kTransposed>
struct Columns {
  static constexpr int kStrip = kStripOf<kTaps, kStride, kTransposed>;
  static constexpr int kBefore = kTransposed && kTaps ? (kTaps - 1) / kStride : 0;
  static constexpr int kCount = kTaps == 0    ? kStrip
                                : kTransposed ? kBefore + (kStrip - 1) / kStride + 1
                                              : (kStrip - 1) * kStride + kTaps;
};

/// Blocks that a multiprocessor's 64K registers should hold: accumulators, a row of taps and the columns read for it
/// stay in registers, with some 40 for addresses and conversion.
template <class T, int kLanes, int kTaps, int kStride, bool kTransposed>
constexpr int blocks_per_multiprocessor() {
  constexpr int kWords = static_cast<int>(sizeof(Accumulator<T>)) / 4;
  using In = Columns<kTaps, kStride, kTransposed>;
  constexpr int kRegisters = (In::kStrip + (kTaps ? kTaps : 1)) * kLanes * kWords +
                             (In::kCount * kLanes * static_cast<int>(sizeof(T)) + 3) / 4 + 40;
  constexpr int kBlocks = 65536 / kDepthwiseThreads / kRegisters;
  return kBlocks < 2 ? 2 : kBlocks > 6 ? 6 : kBlocks;
}

/// The first column that the strip at u0 reads.
template <int kTaps, int kStride, bool kTransposed>
__device__ __forceinline__ int first_column(const Depthwise& d, int u0) {
  if constexpr (kTaps == 0) return 0;
  else if constexpr (!kTransposed) return u0 * kStride - d.u.pad;
  else return (u0 + d.u.pad) / kStride - Columns<kTaps, kStride, kTransposed>::kBefore;
}

/// acc[i][lane] += the taps along u of one row of pixels. Column j of the strip lies at row[first + j * d.in.u], if
/// bit j of `inside` is set. `taps` lies in shared memory as `tap_at` says.
template <class T, int kLanes, int kTaps, int kStride, bool kTransposed, int kStrip>
__device__ __forceinline__ void add_row(const Depthwise& d, const T* __restrict__ row, int64_t first, unsigned inside,
                                        const Accumulator<T>* taps, Accumulator<T> (&acc)[kStrip][kLanes]) {
  using A = Accumulator<T>;
  constexpr int kBefore = Columns<kTaps, kStride, kTransposed>::kBefore;
  constexpr int kColumns = Columns<kTaps, kStride, kTransposed>::kCount;
  Held<T, kLanes> pixels[kColumns];
#pragma unroll
  for (int j = 0; j < kColumns; ++j)
    pixels[j] = load_inside<kLanes>(row, first + int64_t{1} * j * d.in.u, inside >> j & 1);
  A w[kTaps][kLanes];
#pragma unroll
  for (int s = 0; s < kTaps; ++s) read_tap<kLanes>(taps + s * d.tap_size, d.c_count, w[s]);
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
    A x[kLanes];
    widen_held<T>(pixels[j], x);
#pragma unroll
    for (int i = 0; i < kStrip; ++i) {
      const int s = kTransposed ? i - (j - kBefore) * kStride : j - i * kStride;
      if (s < 0 || s >= kTaps) continue;
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) acc[i][lane] += x[lane] * w[s][lane];
    }
  }
}

/// The same for any number of taps, stride and dilation along u.
template <class T, int kLanes, bool kTransposed, int kStrip>
__device__ __forceinline__ void add_row_any(const Depthwise& d, const T* __restrict__ row, int u0,
                                            const Accumulator<T>* taps, Accumulator<T> (&acc)[kStrip][kLanes]) {
  using A = Accumulator<T>;
#pragma unroll 1
  for (int s = 0; s < d.u.taps; ++s) {
    A w[kLanes], x[kLanes];
    read_tap<kLanes>(taps + s * d.tap_size, d.c_count, w);
#pragma unroll
    for (int i = 0; i < kStrip; ++i) {
      const int at = d.template source<kTransposed>(d.u, u0 + i, s);
      widen_held<T>(load_inside<kLanes>(row, int64_t{1} * at * d.in.u, at >= 0), x);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) acc[i][lane] += x[lane] * w[lane];
    }
  }
}

/// `finish` of a strip. Element i lies at index + i * step and counts where `first` <= i < `last`.
///
/// What costs many instructions an element (exp, a division) is a loop that turns the strip round: the code of one
/// element, with every index still known to the compiler.
template <class T, int kLanes, int kStrip>
__device__ __forceinline__ void finish_strip(Accumulator<T> (&acc)[kStrip][kLanes], const Epilogue& e, int channel,
                                             int64_t index, int step, int first, int last) {
  using A = Accumulator<T>;
  const Activation activation = e.activation;
  if (e.scale || e.shift) {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const A scale = e.scale ? static_cast<const A*>(e.scale)[channel + lane] : A(1);
      const A shift = e.shift ? static_cast<const A*>(e.shift)[channel + lane] : A(0);
#pragma unroll
      for (int i = 0; i < kStrip; ++i) acc[i][lane] = acc[i][lane] * scale + shift;
    }
  }
  if (e.residual) {
#pragma unroll
    for (int i = 0; i < kStrip; ++i) {
      A residual[kLanes];
      widen_held<T>(
          load_inside<kLanes>(static_cast<const T*>(e.residual) + index, int64_t{1} * i * step, i >= first && i < last),
          residual);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) acc[i][lane] += residual[lane];
    }
  }
  if (activation == Activation::kRelu) {
#pragma unroll
    for (int i = 0; i < kStrip; ++i)
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) acc[i][lane] = activate(acc[i][lane], Activation::kRelu);
  } else if (activation != Activation::kNone) {
#pragma unroll 1
    for (int turn = 0; turn < kStrip; ++turn) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        const A done = activate(acc[0][lane], activation);
#pragma unroll
        for (int i = 0; i + 1 < kStrip; ++i) acc[i][lane] = acc[i + 1][lane];
        acc[kStrip - 1][lane] = done;
      }
    }
  }
}

/// kTaps and kStride are those along u (dilation 1), or 0 for any.
template <class T, int kLanes, int kTaps, int kStride, bool kTransposed>
__global__ void __launch_bounds__(kDepthwiseThreads,
                                  (blocks_per_multiprocessor<T, kLanes, kTaps, kStride, kTransposed>()))
    depthwise(Depthwise d, const T* __restrict__ in, Filter w, T* __restrict__ out, Epilogue epilogue) {
  using A = Accumulator<T>;
  constexpr int kStrip = kStripOf<kTaps, kStride, kTransposed>;
  A* weights = &shared_memory<A>();
  const DepthwisePlace at = d.place(static_cast<int>(blockIdx.x), static_cast<int>(threadIdx.x));
  const int block_c = at.block_c * d.c_count * kLanes;
  for (int i = static_cast<int>(threadIdx.x); i < d.u.taps * d.v.taps * d.tap_size; i += kDepthwiseThreads) {
    const int tap = i / d.tap_size, c = i % d.tap_size;
    weights[tap * d.tap_size + tap_at<A, kLanes>(c / kLanes, c % kLanes, d.c_count)] =
        block_c + c < d.C
            ? widen(static_cast<const T*>(w.data)[d.filter_offset(block_c + c, tap % d.u.taps, tap / d.u.taps)])
            : A(0);
  }
  __syncthreads();
  const int c = block_c + at.c * kLanes, u0 = at.u * kStrip - d.u_shift;
  if (c >= d.C || u0 >= d.u.out) return;
  const A* taps = weights + tap_at<A, kLanes>(at.c, 0, d.c_count);
  const T* image = in + int64_t{1} * at.n * d.in.n + int64_t{1} * c * d.in.c;
  const int first = first_column<kTaps, kStride, kTransposed>(d, u0);
  const int64_t first_offset = int64_t{1} * first * d.in.u;
  unsigned inside = 0;
  for (int j = 0; j < Columns<kTaps, kStride, kTransposed>::kCount; ++j)
    inside |= static_cast<unsigned>(first + j >= 0 && first + j < d.u.in) << j;

#pragma unroll 1
  for (int step = 0; step < d.steps; ++step) {
    // Rows of a step have one phase of the stride, so that no warp diverges.
    const int v = at.v0 + (step / d.v_phases * d.v_count + at.v) * d.v_phases + step % d.v_phases;
    if (v >= d.v.out) continue;
    A acc[kStrip][kLanes] = {};
#pragma unroll 1
    for (int r = 0; r < d.v.taps; ++r) {
      const int from = d.template source<kTransposed>(d.v, v, r);
      if (from < 0) continue;
      const T* row = image + int64_t{1} * from * d.in.v;
      const A* row_taps = taps + r * d.u.taps * d.tap_size;
      if constexpr (kTaps == 0) add_row_any<T, kLanes, kTransposed>(d, row, u0, row_taps, acc);
      else add_row<T, kLanes, kTaps, kStride, kTransposed>(d, row, first_offset, inside, row_taps, acc);
    }
    const int64_t index =
        int64_t{1} * at.n * d.out.n + int64_t{1} * c * d.out.c + int64_t{1} * v * d.out.v + int64_t{1} * u0 * d.out.u;
    finish_strip<T>(acc, epilogue, c, index, d.out.u, -u0, d.u.out - u0);
#pragma unroll
    for (int i = 0; i < kStrip; ++i) {
      if (u0 + i < 0 || u0 + i >= d.u.out) continue;
      Pack<T, kLanes> done;
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) done.at[lane] = narrow<T>(acc[i][lane]);
      store_pack(out + index + i * d.out.u, done);
    }
  }
}

template <class T, int kLanes, int kTaps, int kStride, bool kTransposed>
void launch_depthwise(const char* name, const ConvProblem& p, Depthwise d, const void* in, const ConvArgs& args) {
  d.tile(kStripOf<kTaps, kStride, kTransposed>, kLanes, sizeof(Accumulator<T>), kTransposed, kTransposed ? kStride : 1);
  launch(name, p, depthwise<T, kLanes, kTaps, kStride, kTransposed>,
         {.grid = {static_cast<unsigned>(d.blocks())},
          .block = {kDepthwiseThreads},
          .shared_bytes = static_cast<size_t>(d.u.taps * d.v.taps * d.tap_size) * sizeof(Accumulator<T>),
          .stream = args.stream},
         d, static_cast<const T*>(in), args.w, static_cast<T*>(args.out), args.epilogue);
}

/// Runs the instantiation for 3, 5 or 7 taps along u at this stride; false where there is none.
template <class T, int kLanes, int kStride, bool kTransposed>
bool launch_taps(const char* name, const ConvProblem& p, const Depthwise& d, const void* in, const ConvArgs& args) {
  if (d.u.dilation != 1 || d.u.stride != kStride) return false;
  switch (d.u.taps) {
    case 3: return launch_depthwise<T, kLanes, 3, kStride, kTransposed>(name, p, d, in, args), true;
    case 5: return launch_depthwise<T, kLanes, 5, kStride, kTransposed>(name, p, d, in, args), true;
    case 7: return launch_depthwise<T, kLanes, 7, kStride, kTransposed>(name, p, d, in, args), true;
    default: return false;
  }
}

/// Runs fprop of `p`.
template <Layout kLayout>
void run_depthwise_fprop(const char* name, const ConvProblem& p, const ConvArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kLanes = kLayout == Layout::kNhwc ? kPackLanes<T> : 1;
    const Depthwise d = depthwise_of(p, Direction::kFprop, args.w);
    if (p.C % kLanes != 0) return launch_depthwise<T, 1, 0, 0, false>(name, p, d, args.x, args);
    if (launch_taps<T, kLanes, 1, false>(name, p, d, args.x, args)) return;
    if (launch_taps<T, kLanes, 2, false>(name, p, d, args.x, args)) return;
    launch_depthwise<T, kLanes, 0, 0, false>(name, p, d, args.x, args);
  });
}

/// Runs dgrad of `p`: with unit stride as fprop of the adjoint, else each phase of the stride by its own taps.
template <Layout kLayout>
void run_depthwise_dgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kLanes = kLayout == Layout::kNhwc ? kPackLanes<T> : 1;
    const Depthwise d = depthwise_of(p, Direction::kDgrad, args.w);
    if (p.C % kLanes != 0) return launch_depthwise<T, 1, 0, 0, true>(name, p, d, args.dy, args);
    if (p.has_unit_stride()) {
      ConvArgs turned = args;
      turned.w = adjoint(args.w, p);
      if (launch_taps<T, kLanes, 1, false>(name, p, depthwise_of(adjoint(p), Direction::kFprop, turned.w), args.dy,
                                           turned))
        return;
    }
    if (launch_taps<T, kLanes, 2, true>(name, p, d, args.dy, args)) return;
    launch_depthwise<T, kLanes, 0, 0, true>(name, p, d, args.dy, args);
  });
}

}  // namespace
}  // namespace fastconv
