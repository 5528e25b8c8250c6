// Implicit GEMM on the FMA units, of fprop and of dgrad: out[pixel, n] = sum over taps and k of in[pixel's tap, k] * w.
//
// gemm_m are the pixels of the output, gemm_n its channels in a group, gemm_k the input's channels by taps, taps
// innermost: of the 16 channels of a step the taps come from L1. Nothing is written but the output.
//
// An output pixel of row i along an axis lies at i * out_step + phase and reads input i * in_step + first + j *
// tap_step with filter tap tap_first + j * tap_jump, 0 <= j < taps.
//   fprop  out_step = 1, in_step = stride, first = -pad, tap_step = dilation, every tap
//   dgrad  out_step = stride, in_step = 1; a phase (the remainder of a pixel of dx by the stride) is a convolution of
//   dy of
//          its own, with the taps that meet dy there: no product with an inserted zero is made. Phases are a grid axis.
//
// The floor is that of FMAs: 2 * macs / 67 TFLOP/s on an H200. A step of a 128 x 64 tile of float32 loads 12 KB for
// 131072 FMAs, 10.7 FMAs a byte: 3.1 TB/s of L1 and L2 at the FMA peak.
#pragma once

#include <algorithm>

#include "conv/cuda/axis_taps.h"
#include "conv/cuda/shape.h"
#include "core/cuda/epilogue.h"
#include "core/cuda/fast_divmod.h"
#include "core/cuda/launch.h"
#include "core/cuda/simt_gemm.h"

namespace fastconv {
namespace {

struct DirectParams {
  int N, in_h, in_w, out_h, out_w, in_channels, out_channels;
  int in_per_group, out_per_group;  // gemm_k of a tap, gemm_n
  int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, R, S;
  int n_tiles, phases_w;
  bool vector_in, vector_w, vector_out;
};

/// One row of the tile: an output pixel, and where its tap (0, 0) lies.
struct PixelRow {
  unsigned in;  // offset of the pixel it would be; wraps around, and is right for every tap that exists
  int h, w;     // far outside where the tile ends
  int out;
};

template <class Tile>
struct DirectShared {
  typename Tile::Shared gemm;
  PixelRow rows[Tile::kM];
};

/// The tap and the channels of a step; taps innermost.
struct TapWalk {
  int taps_h, taps_w, j_h = 0, j_w = 0, k = 0;
  __device__ __forceinline__ void next() {
    if (++j_w < taps_w) return;
    j_w = 0;
    if (++j_h < taps_h) return;
    j_h = 0, k += simt::kStep;
  }
};

template <class T>
class ImageSource {
 public:
  __device__ __forceinline__ ImageSource(const T* in, const DirectParams& p, const PixelRow* rows, const AxisTaps& h,
                                         const AxisTaps& w)
      : in_(in),
        rows_(rows),
        H_(p.in_h),
        W_(p.in_w),
        C_(p.in_channels),
        depth_(p.in_per_group),
        tap_step_h_(h.tap_step),
        tap_step_w_(w.tap_step),
        vector_(p.vector_in),
        walk_{h.taps, w.taps} {}

  __device__ __forceinline__ simt::Quad<T> quad(int, int row, int k) const {
    const PixelRow pixel = rows_[row];
    const int dh = walk_.j_h * tap_step_h_, dw = walk_.j_w * tap_step_w_, left = depth_ - walk_.k - k;
    if (static_cast<unsigned>(pixel.h + dh) >= static_cast<unsigned>(H_)) return {};
    if (static_cast<unsigned>(pixel.w + dw) >= static_cast<unsigned>(W_) || left <= 0) return {};
    const unsigned tap = static_cast<unsigned>(dh) * static_cast<unsigned>(W_) + static_cast<unsigned>(dw);
    const T* from = in_ + (pixel.in + tap * static_cast<unsigned>(C_)) + walk_.k + k;
    return vector_ ? simt::load_quad(from) : simt::gather_quad(from, 1, left);
  }
  __device__ __forceinline__ void next() { walk_.next(); }

 private:
  const T* in_;
  const PixelRow* rows_;
  int H_, W_, C_, depth_, tap_step_h_, tap_step_w_;
  bool vector_;
  TapWalk walk_;
};

/// The weight of a group as [gemm_k][gemm_n]. fprop reads along gemm_k (c), dgrad along gemm_n (c again). Strides fit
/// 32 bits: the weight has fewer than 2^31 elements.
template <class T, simt::Along kAlong>
class FilterSource {
 public:
  __device__ __forceinline__ FilterSource(const T* w, int64_t stride_k, int64_t stride_n, int64_t stride_h,
                                          int64_t stride_w, const DirectParams& p, int n_first, const AxisTaps& h,
                                          const AxisTaps& v)
      : w_(w),
        stride_k_(static_cast<int>(stride_k)),
        stride_n_(static_cast<int>(stride_n)),
        stride_h_(static_cast<int>(stride_h)),
        stride_w_(static_cast<int>(stride_w)),
        depth_(p.in_per_group),
        columns_(p.out_per_group - n_first),
        vector_(p.vector_w),
        walk_{h.taps, v.taps} {}

  __device__ __forceinline__ simt::Quad<T> quad(int, int n, int k) const {
    const int depth_left = depth_ - walk_.k - k, columns_left = columns_ - n;
    if (depth_left <= 0 || columns_left <= 0) return {};
    const T* from = w_ + (walk_.j_h * stride_h_ + walk_.j_w * stride_w_ + (walk_.k + k) * stride_k_ + n * stride_n_);
    if (vector_) return simt::load_quad(from);
    return kAlong == simt::Along::kDepth ? simt::gather_quad(from, stride_k_, depth_left)
                                         : simt::gather_quad(from, stride_n_, columns_left);
  }
  __device__ __forceinline__ void next() { walk_.next(); }

 private:
  const T* w_;
  int stride_k_, stride_n_, stride_h_, stride_w_;
  int depth_, columns_;
  bool vector_;
  TapWalk walk_;
};

/// Grid: tiles of channels then of pixels along x, groups along y, phases along z.
template <class Tile, Direction kDirection>
__global__ void __launch_bounds__(simt::kThreads, Tile::kBlocksPerSm)
    direct(DirectParams p, const typename Tile::T* __restrict__ in, Filter filter, typename Tile::T* __restrict__ out,
           Epilogue epilogue) {
  using T = typename Tile::T;
  constexpr bool kFprop = kDirection == Direction::kFprop;
  constexpr simt::Along kAlongW = kFprop ? simt::Along::kDepth : simt::Along::kRows;
  auto& shared = shared_memory<DirectShared<Tile>>();
  const int phase = static_cast<int>(blockIdx.z), g = static_cast<int>(blockIdx.y);
  const AxisTaps h = kFprop ? AxisTaps::of_fprop(p.stride_h, p.pad_h, p.dilation_h, p.R)
                            : AxisTaps::of_dgrad(phase / p.phases_w, p.stride_h, p.pad_h, p.dilation_h, p.R);
  const AxisTaps v = kFprop ? AxisTaps::of_fprop(p.stride_w, p.pad_w, p.dilation_w, p.S)
                            : AxisTaps::of_dgrad(phase % p.phases_w, p.stride_w, p.pad_w, p.dilation_w, p.S);
  const int rows_h = h.outputs(p.out_h), rows_w = v.outputs(p.out_w), pixels = p.N * rows_h * rows_w;
  const int n_first = static_cast<int>(blockIdx.x) % p.n_tiles * Tile::kN;
  const int64_t m_first = int64_t{1} * (static_cast<int>(blockIdx.x) / p.n_tiles) * Tile::kM;
  if (m_first >= pixels) return;  // a phase of fewer pixels than the first

  for (int row = static_cast<int>(threadIdx.x); row < Tile::kM; row += simt::kThreads) {
    PixelRow pixel = {0, -(1 << 30), 0, -1};
    if (m_first + row < pixels) {
      const int m = static_cast<int>(m_first) + row, j = m % rows_w, i = m / rows_w % rows_h, n = m / rows_w / rows_h;
      pixel.h = i * h.in_step + h.first, pixel.w = j * v.in_step + v.first;
      const auto u = [](int value) { return static_cast<unsigned>(value); };
      pixel.in = ((u(n) * u(p.in_h) + u(pixel.h)) * u(p.in_w) + u(pixel.w)) * u(p.in_channels);
      pixel.out = ((n * p.out_h + i * h.out_step + h.phase) * p.out_w + j * v.out_step + v.phase) * p.out_channels;
    }
    shared.rows[row] = pixel;
  }
  __syncthreads();

  const int64_t stride_k = kFprop ? filter.stride_c : filter.stride_k;
  const int64_t stride_n = kFprop ? filter.stride_k : filter.stride_c;
  const T* w = static_cast<const T*>(filter.data) + g * filter.stride_g + n_first * stride_n +
               h.tap_first * filter.stride_r + v.tap_first * filter.stride_s;
  const int steps = h.taps * v.taps * ((p.in_per_group + simt::kStep - 1) / simt::kStep);
  simt::Sums<Tile> sums;
  simt::multiply<Tile, simt::Along::kDepth, kAlongW>(
      ImageSource<T>(in + g * p.in_per_group, p, shared.rows, h, v),
      FilterSource<T, kAlongW>(w, stride_k, stride_n, h.tap_jump * filter.stride_r, v.tap_jump * filter.stride_s, p,
                               n_first, h, v),
      steps, shared.gemm, sums);

  simt::for_each_quad<Tile>(sums, shared.gemm, [&](int row, int column, const auto& quad) {
    const int at = shared.rows[row].out, left = p.out_per_group - n_first - column;
    if (at < 0 || left <= 0) return;
    const int channel = g * p.out_per_group + n_first + column;
    const int64_t to = int64_t{1} * at + channel;
    Pack<T, 4> result;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i < left) result.at[i] = narrow<T>(finish<T>(quad.at[i], epilogue, channel + i, to + i));
    if (p.vector_out) {
      simt::store_quad(out + to, result);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i < left) out[to + i] = result.at[i];
    }
  });
}

/// Whether quads along c may be moved at once: every stride but that of c is a multiple of 4, and that is 1.
inline bool has_quads(const Filter& w, int64_t channels, int64_t bytes) {
  if (w.stride_c != 1 || channels % 4 != 0) return false;
  for (int64_t stride : {w.stride_g, w.stride_k, w.stride_r, w.stride_s})
    if (stride % 4 != 0) return false;
  return reinterpret_cast<uintptr_t>(w.data) % static_cast<uintptr_t>(bytes > 4 ? 16 : 4 * bytes) == 0;
}

inline const char* direct_why_not(const ConvProblem& p) {
  if (const char* reason = too_large(p)) return reason;
  if (!p.is_2d()) return "takes problems without a depth axis only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels last only";
  // Phases that a stride beyond the image leaves without pixels are none.
  const int64_t phases = std::min(p.stride_h, p.H) * std::min(p.stride_w, p.W);
  if (p.groups > kMaxGridYZ || phases > kMaxGridYZ) return "takes fewer than 65536 groups and phases";
  return nullptr;
}

template <class Tile, Direction kDirection>
void launch_direct(const char* name, const ConvProblem& p, const ConvArgs& args) {
  using T = typename Tile::T;
  constexpr bool kFprop = kDirection == Direction::kFprop;
  const ConvShape s = shape_of(p);
  const int n = kFprop ? s.K_per_group : s.C_per_group;
  DirectParams d = {s.N,
                    s.H,
                    s.W,
                    s.P,
                    s.Q,
                    s.C,
                    s.K,
                    s.C_per_group,
                    s.K_per_group,
                    s.stride_h,
                    s.stride_w,
                    s.pad_h,
                    s.pad_w,
                    s.dilation_h,
                    s.dilation_w,
                    s.R,
                    s.S,
                    (n + Tile::kN - 1) / Tile::kN,
                    std::max(std::min(s.stride_w, s.W), 1),
                    s.C_per_group % 4 == 0,
                    has_quads(args.w, s.C_per_group, element_size(p.dtype)),
                    s.K_per_group % 4 == 0};
  int64_t pixels = int64_t{1} * s.N * s.P * s.Q;
  unsigned phases = 1;
  if (!kFprop) {
    std::swap(d.in_h, d.out_h), std::swap(d.in_w, d.out_w), std::swap(d.in_channels, d.out_channels);
    std::swap(d.in_per_group, d.out_per_group), std::swap(d.vector_in, d.vector_out);
    pixels = int64_t{1} * s.N * ((s.H + s.stride_h - 1) / s.stride_h) * ((s.W + s.stride_w - 1) / s.stride_w);
    phases = static_cast<unsigned>(std::min(s.stride_h, s.H) * d.phases_w);
  }
  static_assert(blocks_fit(sizeof(DirectShared<Tile>), Tile::kBlocksPerSm));
  const Launch at = {.grid = {static_cast<unsigned>((pixels + Tile::kM - 1) / Tile::kM * d.n_tiles),
                              static_cast<unsigned>(s.groups), phases},
                     .block = {simt::kThreads},
                     .shared_bytes = sizeof(DirectShared<Tile>),
                     .stream = args.stream};
  launch(name, p, direct<Tile, kDirection>, at, d, static_cast<const T*>(kFprop ? args.x : args.dy), args.w,
         static_cast<T*>(args.out), args.epilogue);
}

/// 128 x 64 sums a block; 64 x 32 where that leaves most of a large GPU idle, or the group has few channels.
template <Direction kDirection>
void run_direct(const char* name, const ConvProblem& p, const ConvArgs& args) {
  constexpr bool kFprop = kDirection == Direction::kFprop;
  constexpr int64_t kEnoughBlocks = 256;
  const int64_t pixels = kFprop ? p.N * p.P * p.Q : p.N * p.H * p.W, n = kFprop ? p.K_per_group() : p.C_per_group();
  const bool large = n > 32 && (pixels + 127) / 128 * ((n + 63) / 64) * p.groups >= kEnoughBlocks;
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, double>) {
      launch_direct<simt::Tile<T, 1, 2>, kDirection>(name, p, args);
    } else if (large) {
      launch_direct<simt::Tile<T, 2, 2>, kDirection>(name, p, args);
    } else {
      launch_direct<simt::Tile<T, 1, 1>, kDirection>(name, p, args);
    }
  });
}

}  // namespace
}  // namespace fastconv
