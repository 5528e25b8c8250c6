// wgrad of the first layer, up to 4 input channels: dw[k,c,r,s] = sum over n,p,q of dy[n,k,p,q] * x[n,c,h,w].
//
// A block sums 64 taps (r, s, c) by 64 channels k over a run of rectangles of 128 output pixels (64 in float64). Of
// each it keeps the strip of x and the rectangle of dy in shared memory; a step is a pixel, and a thread's 4 x 8 sums
// take four elements of the strip, at the offsets of its taps, and eight channels of dy. No matrix is made, on chip or
// off. Runs are parts (wgrad_parts.h).
//
// Floors on an H200 for 7x7/2, 3 to 64 channels, 112 x 112, a batch of 128: 15.1 GFMA, 450 us at the FMA peak and 590
// us with the taps rounded up to 192. Shared memory takes longer: for the 8 cycles of a step's 32 FMAs, two cycles each
// for two loads of dy (simt_gemm.h) and 1.5 each for four of the strip, as the taps of a warp fall into banks; 10, so
// 740 us. dy is read once for every 64 taps, 3 x 411 MB in float32, most of them from L2.
#pragma once

#include <algorithm>

#include "conv/cuda/stem_strip.h"
#include "conv/cuda/wgrad_parts.h"

namespace fastconv {
namespace {

struct StemWgradParams {
  Strip strip;
  FilterMatrix matrix;
  int tiles, tiles_per_part, k_tiles;
  bool vector_dy;
};

/// Quad `quad` of the rectangle of dy as [pixel][kN]; zeros behind K and outside the image.
template <class T, int kN>
__device__ __forceinline__ simt::Quad<T> rectangle_quad(const StemWgradParams& t, const T* dy, const Rectangle& at,
                                                        int k_first, int quad) {
  const ConvShape& p = t.strip.p;
  const int pixel = quad / (kN / 4), column = quad % (kN / 4) * 4, left = p.K - k_first - column;
  const int i = at.p + pixel / t.strip.tile_q, j = at.q + pixel % t.strip.tile_q;
  if (i >= p.P || j >= p.Q || left <= 0) return {};
  const T* from = dy + p.y.at(at.n, k_first, 0, i, j) + column;
  return t.vector_dy ? simt::load_quad(from) : simt::gather_quad(from, 1, left);
}

/// Copies the rectangle of dy, of which each thread has a multiple of four quads: four loads are on their way together.
template <class T, int kN>
__device__ __forceinline__ void load_rectangle(const StemWgradParams& t, const T* dy, const Rectangle& at, int k_first,
                                               Accumulator<T>* to) {
  constexpr int kTogether = 4;
  const int quads = t.strip.tile_p * t.strip.tile_q * kN / 4;
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x); first < quads; first += kTogether * simt::kThreads) {
    simt::Quad<T> values[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
      values[i] = rectangle_quad<T, kN>(t, dy, at, k_first, first + i * simt::kThreads);
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
      store_pack(to + (first + i * simt::kThreads) * 4, simt::widen_quad<T>(values[i]));
  }
}

/// Grid: tiles of channels then of taps along x, parts along y.
template <class Tile>
__global__ void __launch_bounds__(simt::kThreads, 4)
    stem_wgrad(StemWgradParams t, const typename Tile::T* __restrict__ x, const typename Tile::T* __restrict__ dy,
               typename Tile::A* parts, Filter dw) {
  using T = typename Tile::T;
  using A = typename Tile::A;
  auto& out = shared_memory<typename Tile::Shared>();
  A* strip = reinterpret_cast<A*>(&out);
  A* gradient = strip + t.strip.elements();
  const ConvShape& p = t.strip.p;
  const int k_first = static_cast<int>(blockIdx.x) % t.k_tiles * Tile::kN;
  const int m_first = static_cast<int>(blockIdx.x) / t.k_tiles * Tile::kM;
  const simt::Squares<Tile> at;

  const A* taps[4 * Tile::kQuadsM];
  simt::Sums<Tile> sums;
#pragma unroll
  for (int i = 0; i < 4 * Tile::kQuadsM; ++i) {
    const int m = m_first + at.m + i / 4 * 32 + i % 4;
    int tap, r;
    const int c = t.matrix.c.divmod(m, &tap), s = t.matrix.s.divmod(tap, &r);
    taps[i] = strip;  // of a row that is not stored
    if (m < t.matrix.gemm_m) taps[i] += r * p.dilation_h * t.strip.pitch + c * t.strip.columns + s * p.dilation_w;
#pragma unroll
    for (int n = 0; n < 4 * Tile::kQuadsN; ++n) sums[i][n] = 0;
  }

  const int first = static_cast<int>(blockIdx.y) * t.tiles_per_part;
  const int last = t.tiles - first < t.tiles_per_part ? t.tiles : first + t.tiles_per_part;
#pragma unroll 1
  for (int tile = first; tile < last; ++tile) {
    const Rectangle rectangle(t.strip, tile);
    load_strip<T>(t.strip, x, rectangle, strip);
    load_rectangle<T, Tile::kN>(t, dy, rectangle, k_first, gradient);
    __syncthreads();
    const int rows = p.P - rectangle.p < t.strip.tile_p ? p.P - rectangle.p : t.strip.tile_p;
    const int columns = p.Q - rectangle.q < t.strip.tile_q ? p.Q - rectangle.q : t.strip.tile_q;
#pragma unroll 1
    for (int i = 0; i < rows; ++i) {
      const A* from = gradient + i * t.strip.tile_q * Tile::kN + at.n;
      int offset = i * p.stride_h * t.strip.pitch;
#pragma unroll 2
      for (int j = 0; j < columns; ++j, offset += p.stride_w, from += Tile::kN) {
        Pack<A, 4> b[Tile::kQuadsN];
#pragma unroll
        for (int n = 0; n < Tile::kQuadsN; ++n) b[n] = load_pack<4>(from + 16 * n);
#pragma unroll
        for (int m = 0; m < 4 * Tile::kQuadsM; ++m) {
          const A a = taps[m][offset];
#pragma unroll
          for (int n = 0; n < 4 * Tile::kQuadsN; ++n) sums[m][n] += a * b[n / 4].at[n % 4];
        }
      }
    }
    __syncthreads();
  }
  if (parts) parts += int64_t{1} * blockIdx.y * t.matrix.gemm_m * t.matrix.pitch;
  store_tile<Tile>(sums, out, t.matrix, parts, dw, 0, m_first, k_first);
}

template <class T>
using StemWgradTile = simt::Tile<T, 1, 2>;

/// The rectangles, and how many a part.
struct StemWgradPlan {
  Strip strip;
  int64_t m_tiles, k_tiles, tiles_per_part, parts, shared_bytes;

  explicit StemWgradPlan(const ConvProblem& p) : strip(p, p.dtype == DType::kFloat64 ? 64 : 128) {
    constexpr int64_t kBlocks = 800, kMostBytes = int64_t{64} << 20;
    constexpr int kM = StemWgradTile<float>::kM, kN = StemWgradTile<float>::kN;
    m_tiles = (p.R * p.S * p.C + kM - 1) / kM, k_tiles = (p.K + kN - 1) / kN;
    const int64_t most = std::max<int64_t>(std::min(strip.tiles(), kMostBytes / Parts::matrix_bytes(p)), 1);
    const int64_t count = std::clamp<int64_t>(kBlocks / (m_tiles * k_tiles), 1, most);
    tiles_per_part = std::max<int64_t>((strip.tiles() + count - 1) / count, 1);
    parts = std::max<int64_t>((strip.tiles() + tiles_per_part - 1) / tiles_per_part, 1);
    const bool wide = p.dtype == DType::kFloat64;
    const int64_t gradient = int64_t{1} * strip.tile_p * strip.tile_q * kN;
    const size_t least = wide ? sizeof(StemWgradTile<double>::Shared) : sizeof(StemWgradTile<float>::Shared);
    shared_bytes = std::max((strip.elements() + gradient) * (wide ? 8 : 4), static_cast<int64_t>(least));
  }
};

inline const char* stem_wgrad_why_not(const ConvProblem& p, Layout x_layout) {
  if (const char* reason = strip_why_not(p, x_layout)) return reason;
  return StemWgradPlan(p).shared_bytes <= kMostStripBytes ? nullptr : "takes strips of up to 96 KB only";
}

inline size_t stem_wgrad_workspace(const ConvProblem& p) {
  const StemWgradPlan plan(p);
  return plan.parts > 1 ? static_cast<size_t>(plan.parts * Parts::matrix_bytes(p)) : 0;
}

inline void run_stem_wgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  const StemWgradPlan plan(p);
  const StemWgradParams params = {plan.strip,
                                  FilterMatrix(plan.strip.p),
                                  static_cast<int>(plan.strip.tiles()),
                                  static_cast<int>(plan.tiles_per_part),
                                  static_cast<int>(plan.k_tiles),
                                  p.K % 4 == 0};
  const Launch at = {.grid = {static_cast<unsigned>(plan.m_tiles * plan.k_tiles), static_cast<unsigned>(plan.parts)},
                     .block = {simt::kThreads},
                     .shared_bytes = static_cast<size_t>(plan.shared_bytes),
                     .stream = args.stream};
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(name, p, stem_wgrad<StemWgradTile<T>>, at, params, static_cast<const T*>(args.x),
           static_cast<const T*>(args.dy), plan.parts > 1 ? static_cast<Accumulator<T>*>(args.workspace) : nullptr,
           args.w);
    if (plan.parts > 1) launch_sum_parts<T>(name, p, args, static_cast<int>(plan.parts));
  });
}

}  // namespace
}  // namespace fastconv
