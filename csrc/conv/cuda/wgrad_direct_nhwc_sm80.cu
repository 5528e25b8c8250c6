// dw[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,h,w], h = p * stride - pad + r * dilation: implicit GEMM on the
// FMA units, exact in every dtype.
//
// gemm_m = (r, s, c) gathered from x, gemm_n = k as dy lies, gemm_k = pixels of y, cut into parts that blocks take side
// by side; partial sums are added in a fixed order (wgrad_parts.h). 128 x 64 sums a block of 128 threads, or 64 x 32
// where the group has no more channels.
//
// The floor is that of FMAs: 2 * macs / 67 TFLOP/s on an H200. A step of 16 pixels loads 12 KB for 131072 FMAs.

#include "conv/cuda/wgrad_parts.h"

namespace fastconv {
namespace {

struct WgradParams {
  int H, W, C, K, S, C_per_group;
  int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int pixels, pixels_per_part, n_tiles;
  FastDivmod q, p;
  FilterMatrix matrix;
  bool vector_x, vector_dy;
};

/// (r, s, c) by pixels: a thread's quad of rows stays, and is four channels of one tap where those are a multiple of 4.
template <class T>
class TapSource {
 public:
  __device__ __forceinline__ TapSource(const T* x, const WgradParams& p, int m, int first, int last)
      : x_(x), p_(p), m_(m), pixel_(first), last_(last), taps_(tap_of(m)) {}

  __device__ __forceinline__ simt::Quad<T> quad(int, int, int k) const {
    const int pixel = pixel_ + k;
    if (pixel >= last_ || m_ >= p_.matrix.gemm_m) return {};
    int line, n;
    const int q = p_.q.divmod(pixel, &line), p = p_.p.divmod(line, &n);
    const int h = p * p_.stride_h, w = q * p_.stride_w;
    if (p_.vector_x) {
      const T* from = place(n, h, w, taps_);
      return from ? simt::load_quad(from) : simt::Quad<T>{};
    }
    Pack<T, 4> quad = {};
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (m_ + i < p_.matrix.gemm_m)
        if (const T* from = place(n, h, w, tap_of(m_ + i))) quad.at[i] = *from;
    return simt::quad_of(quad);
  }
  __device__ __forceinline__ void next() { pixel_ += simt::kStep; }

 private:
  struct Tap {
    int h, w, c;
  };
  __device__ __forceinline__ Tap tap_of(int m) const {
    int tap, r;
    const int c = p_.matrix.c.divmod(m, &tap), s = p_.matrix.s.divmod(tap, &r);
    return {r * p_.dilation_h - p_.pad_h, s * p_.dilation_w - p_.pad_w, c};
  }
  /// Null outside the image.
  __device__ __forceinline__ const T* place(int n, int h, int w, const Tap& tap) const {
    h += tap.h, w += tap.w;
    if (static_cast<unsigned>(h) >= static_cast<unsigned>(p_.H)) return nullptr;
    if (static_cast<unsigned>(w) >= static_cast<unsigned>(p_.W)) return nullptr;
    return x_ + (((n * p_.H + h) * p_.W + w) * p_.C + tap.c);
  }

  const T* x_;
  const WgradParams& p_;
  int m_, pixel_, last_;
  Tap taps_;
};

/// k by pixels, as dy lies.
template <class T>
class GradientSource {
 public:
  __device__ __forceinline__ GradientSource(const T* dy, const WgradParams& p, int n_first, int first, int last)
      : dy_(dy + n_first),
        K_(p.K),
        columns_(p.matrix.gemm_n - n_first),
        pixel_(first),
        last_(last),
        vector_(p.vector_dy) {}

  __device__ __forceinline__ simt::Quad<T> quad(int, int n, int k) const {
    if (pixel_ + k >= last_ || n >= columns_) return {};
    const T* from = dy_ + int64_t{1} * (pixel_ + k) * K_ + n;
    return vector_ ? simt::load_quad(from) : simt::gather_quad(from, 1, columns_ - n);
  }
  __device__ __forceinline__ void next() { pixel_ += simt::kStep; }

 private:
  const T* dy_;
  int K_, columns_, pixel_, last_;
  bool vector_;
};

/// Grid: tiles of k then of (r, s, c) along x, groups along y, parts along z.
template <class Tile>
__global__ void __launch_bounds__(simt::kThreads, Tile::kBlocksPerSm)
    wgrad_direct(WgradParams p, const typename Tile::T* __restrict__ x, const typename Tile::T* __restrict__ dy,
                 typename Tile::A* parts, Filter dw) {
  using T = typename Tile::T;
  auto& shared = shared_memory<typename Tile::Shared>();
  const int g = static_cast<int>(blockIdx.y), part = static_cast<int>(blockIdx.z);
  const int n_first = static_cast<int>(blockIdx.x) % p.n_tiles * Tile::kN;
  const int m_first = static_cast<int>(blockIdx.x) / p.n_tiles * Tile::kM;
  const int first = part * p.pixels_per_part;
  const int last = p.pixels - first < p.pixels_per_part ? p.pixels : first + p.pixels_per_part;
  simt::Sums<Tile> sums;
  simt::multiply<Tile, simt::Along::kRows, simt::Along::kRows>(
      TapSource<T>(x + g * p.C_per_group, p, m_first + simt::thread_row<Tile::kM>(), first, last),
      GradientSource<T>(dy + g * p.matrix.gemm_n, p, n_first, first, last),
      (last - first + simt::kStep - 1) / simt::kStep, shared, sums);
  if (parts) parts += int64_t{1} * part * gridDim.y * p.matrix.gemm_m * p.matrix.pitch;
  store_tile<Tile>(sums, shared, p.matrix, parts, dw, g, m_first, n_first);
}

/// Which tile, and the cut of the pixels.
struct Plan {
  bool large;
  int64_t m_tiles, n_tiles;
  Parts parts;

  explicit Plan(const ConvProblem& p) {
    const int64_t m = p.R * p.S * p.C_per_group(), n = p.K_per_group();
    const bool wide = p.dtype == DType::kFloat64;
    large = !wide && m > 64 && n > 32;
    m_tiles = large ? (m + 127) / 128 : (m + 63) / 64;
    n_tiles = large || wide ? (n + 63) / 64 : (n + 31) / 32;
    parts = Parts::of(p, p.N * p.P * p.Q, m_tiles * n_tiles * p.groups);
  }
};

template <class Tile>
void launch_wgrad(const ConvProblem& p, const ConvArgs& args, const Plan& plan) {
  using T = typename Tile::T;
  const ConvShape s = shape_of(p);
  const WgradParams w = {s.H,
                         s.W,
                         s.C,
                         s.K,
                         s.S,
                         s.C_per_group,
                         s.stride_h,
                         s.stride_w,
                         s.pad_h,
                         s.pad_w,
                         s.dilation_h,
                         s.dilation_w,
                         s.N * s.P * s.Q,
                         plan.parts.pixels,
                         static_cast<int>(plan.n_tiles),
                         FastDivmod(s.Q > 0 ? s.Q : 1),
                         FastDivmod(s.P > 0 ? s.P : 1),
                         FilterMatrix(s),
                         s.C_per_group % 4 == 0,
                         s.K_per_group % 4 == 0};
  const Launch at = {.grid = {static_cast<unsigned>(plan.m_tiles * plan.n_tiles), static_cast<unsigned>(s.groups),
                              static_cast<unsigned>(plan.parts.count)},
                     .block = {simt::kThreads},
                     .shared_bytes = sizeof(typename Tile::Shared),
                     .stream = args.stream};
  launch("conv_wgrad_direct_nhwc_sm80", p, wgrad_direct<Tile>, at, w, static_cast<const T*>(args.x),
         static_cast<const T*>(args.dy), plan.parts.count > 1 ? static_cast<Accumulator<T>*>(args.workspace) : nullptr,
         args.w);
  if (plan.parts.count > 1) launch_sum_parts<T>("conv_wgrad_direct_nhwc_sm80", p, args, plan.parts.count);
}

const char* why_not(const ConvProblem& p) {
  if (const char* reason = too_large(p)) return reason;
  if (!p.is_2d()) return "takes problems without a depth axis only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels last only";
  if (p.groups > kMaxGridYZ) return "takes fewer than 65536 groups";
  return nullptr;
}

void run(const ConvProblem& p, const ConvArgs& args) {
  const Plan plan(p);
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, double>) {
      launch_wgrad<simt::Tile<T, 1, 2>>(p, args, plan);
    } else if (plan.large) {
      launch_wgrad<simt::Tile<T, 2, 2>>(p, args, plan);
    } else {
      launch_wgrad<simt::Tile<T, 1, 1>>(p, args, plan);
    }
  });
}

size_t workspace(const ConvProblem& p) {
  const Plan plan(p);
  return plan.parts.count > 1 ? static_cast<size_t>(plan.parts.count * Parts::matrix_bytes(p)) : 0;
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_direct_nhwc_sm80) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
