// fprop of the first layer, up to 4 input channels: y[n,k,p,q] = sum over r,c,s of x[n,c,h,w] * w[k,c,r,s].
//
// A block makes a rectangle of 128 output pixels by 64 channels (32 where K has no more, 64 pixels in float64). It
// keeps the strip of x under the rectangle in shared memory as [h][c][w] in the accumulator's type, so that reading
// NCHW and NHWC differ in the copy alone, and the weight as [r][c][s][k], as many filter rows at a time as 40 KB hold.
// Each thread keeps 8 pixels x 8 channels: of the 10 loads from shared memory for 64 FMAs, those of x take 8
// neighbouring columns of a warp, those of w 64 neighbouring bytes.
//
// Floors on an H200 for 7x7/2, 3 to 64 channels, 112 x 112, a batch of 128: 15.1 GFMA, 450 us at the FMA peak;
// 411 MB of y in float32, 96 us. With 3x3 filters and half precision the write of y is the floor.
#pragma once

#include <algorithm>

#include "core/cuda/epilogue.h"
#include "core/cuda/fast_divmod.h"
#include "core/cuda/launch.h"
#include "core/cuda/shape.h"
#include "core/cuda/simt_gemm.h"

namespace fastconv {
namespace {

struct StemParams {
  ConvShape p;
  int tile_p = 0, tile_q = 0, tiles_p = 0, tiles_q = 0;
  int rows = 0, columns = 0, pitch = 0;     // of the strip; `pitch` is that of a row of all channels
  int weight_rows = 0;                      // filter rows at a time
  FastDivmod x_inner = {}, c = {}, s = {};  // x_inner: what lies innermost in x, its channels or the strip's columns
  bool vector_out = false;
};

/// Pixel `m` of the rectangle. Lanes that differ in a quad of rows get neighbouring columns.
__device__ __forceinline__ void stem_pixel(const StemParams& t, int m, int* p, int* q) {
  const int group = m / 32 * 4 + m % 4, groups = t.tile_q / 8;
  *p = group / groups;
  *q = group % groups * 8 + m % 32 / 4;
}

/// Copies the strip whose first pixel is (h, w) of image n; zeros outside the image. A warp a row.
template <class T>
__device__ __forceinline__ void load_strip(const StemParams& t, const T* x, int n, int h_first, int w_first,
                                           Accumulator<T>* strip) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const bool channels_inside = t.x_inner.divisor() == t.p.C && t.p.x.c == 1;
  for (int e = lane; e < t.columns * t.p.C; e += kWarpSize) {
    int outer;
    const int inner = t.x_inner.divmod(e, &outer), c = channels_inside ? inner : outer;
    const int column = channels_inside ? outer : inner, w = w_first + column;
    const bool inside = static_cast<unsigned>(w) < static_cast<unsigned>(t.p.W);
#pragma unroll 4
    for (int row = warp; row < t.rows; row += simt::kThreads / kWarpSize) {
      const int h = h_first + row;
      T value{};
      if (inside && static_cast<unsigned>(h) < static_cast<unsigned>(t.p.H)) value = x[t.p.x.at(n, c, 0, h, w)];
      strip[row * t.pitch + c * t.columns + column] = widen(value);
    }
  }
}

/// Copies filter rows r .. r + rows - 1 of channels k .. k + kN - 1 as [r][c][s][kPitch]; zeros behind K. A lane a tap.
template <class T, int kN, int kPitch>
__device__ __forceinline__ void load_weight(const StemParams& t, const Filter& w, int k_first, int r_first, int rows,
                                            Accumulator<T>* weight) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int e = lane; e < rows * t.p.S * t.p.C; e += kWarpSize) {
    int tap, r;
    const int c = t.c.divmod(e, &tap), s = t.s.divmod(tap, &r);
    const T* from = static_cast<const T*>(w.data) + w.offset(0, k_first, c, 0, r_first + r, s);
    Accumulator<T>* to = weight + ((r * t.p.C + c) * t.p.S + s) * kPitch;
#pragma unroll 4
    for (int k = warp; k < kN; k += simt::kThreads / kWarpSize)
      to[k] = k_first + k < t.p.K ? widen(from[k * w.stride_k]) : Accumulator<T>(0);
  }
}

/// sums += x * w of one tap.
template <class Tile, int kPitch>
__device__ __forceinline__ void multiply_tap(const typename Tile::A* const (&x)[4 * Tile::kQuadsM], int offset,
                                             const typename Tile::A* w, simt::Sums<Tile>& sums) {
  using A = typename Tile::A;
  Pack<A, 4> b[Tile::kQuadsN];
#pragma unroll
  for (int j = 0; j < Tile::kQuadsN; ++j) b[j] = load_pack<4>(w + 16 * j);
#pragma unroll
  for (int m = 0; m < 4 * Tile::kQuadsM; ++m) {
    const A a = x[m][offset];
#pragma unroll
    for (int n = 0; n < 4 * Tile::kQuadsN; ++n) sums[m][n] += a * b[n / 4].at[n % 4];
  }
}

/// Grid: rectangles of pixels along x, tiles of channels along y.
template <class Tile>
__global__ void __launch_bounds__(simt::kThreads, Tile::kBlocksPerSm)
    stem(StemParams t, const typename Tile::T* __restrict__ x, Filter w, typename Tile::T* __restrict__ y,
         Epilogue epilogue) {
  using T = typename Tile::T;
  using A = typename Tile::A;
  constexpr int kPitch = Tile::kN + 4;  // a lane a tap stores four to a bank, not 32
  auto& out = shared_memory<typename Tile::Shared>();
  A* strip = reinterpret_cast<A*>(&out);
  A* weight = strip + (t.rows * t.pitch + 3) / 4 * 4;
  int tile = static_cast<int>(blockIdx.x);
  const int q_first = tile % t.tiles_q * t.tile_q;
  tile /= t.tiles_q;
  const int p_first = tile % t.tiles_p * t.tile_p, n = tile / t.tiles_p;
  const int k_first = static_cast<int>(blockIdx.y) * Tile::kN;
  load_strip<T>(t, x, n, p_first * t.p.stride_h - t.p.pad_h, q_first * t.p.stride_w - t.p.pad_w, strip);

  const simt::Squares<Tile> at;
  const A* pixels[4 * Tile::kQuadsM];
  simt::Sums<Tile> sums;
#pragma unroll
  for (int m = 0; m < 4 * Tile::kQuadsM; ++m) {
    int p, q;
    stem_pixel(t, at.m + m / 4 * 32 + m % 4, &p, &q);
    pixels[m] = strip + p * t.p.stride_h * t.pitch + q * t.p.stride_w;
#pragma unroll
    for (int i = 0; i < 4 * Tile::kQuadsN; ++i) sums[m][i] = 0;
  }

#pragma unroll 1
  for (int r_first = 0; r_first < t.p.R; r_first += t.weight_rows) {
    const int rows = t.p.R - r_first < t.weight_rows ? t.p.R - r_first : t.weight_rows;
    load_weight<T, Tile::kN, kPitch>(t, w, k_first, r_first, rows, weight);
    __syncthreads();
    const A* taps = weight + at.n;
#pragma unroll 1
    for (int rc = 0; rc < rows * t.p.C; ++rc) {
      const int line = (r_first + rc / t.p.C) * t.p.dilation_h * t.pitch + rc % t.p.C * t.columns;
      int s = 0;
      if (t.p.dilation_w == 1) {
#pragma unroll 1
        for (; s + 4 <= t.p.S; s += 4) {
#pragma unroll
          for (int i = 0; i < 4; ++i) multiply_tap<Tile, kPitch>(pixels, line + s + i, taps + i * kPitch, sums);
          taps += 4 * kPitch;
        }
      }
#pragma unroll 1
      for (; s < t.p.S; ++s, taps += kPitch) multiply_tap<Tile, kPitch>(pixels, line + s * t.p.dilation_w, taps, sums);
    }
    __syncthreads();
  }

  simt::for_each_quad<Tile>(sums, out, [&](int row, int column, const auto& quad) {
    int p, q;
    stem_pixel(t, row, &p, &q);
    p += p_first, q += q_first;
    const int k = k_first + column, left = t.p.K - k;
    if (p >= t.p.P || q >= t.p.Q || left <= 0) return;
    const int64_t to = t.p.y.at(n, k, 0, p, q);
    Pack<T, 4> result;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i < left) result.at[i] = narrow<T>(finish<T>(quad.at[i], epilogue, k + i, to + i));
    if (t.vector_out) {
      simt::store_quad(y + to, result);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i < left) y[to + i] = result.at[i];
    }
  });
}

/// The rectangle, the strip under it, and the shared memory of both.
struct StemPlan {
  StemParams params;
  size_t shared_bytes;

  StemPlan(const ConvProblem& p, int pixels, int channels, size_t least_bytes) : params{.p = shape_of(p)} {
    const ConvShape& s = params.p;
    // The rectangle that wastes the fewest outputs; of equals, the one nearest to a square.
    int64_t best = 0;
    for (int tile_q : {16, 8, 32, 64, 128}) {
      const int tile_p = pixels / tile_q;
      if (tile_p == 0) continue;
      const int tiles_p = (s.P + tile_p - 1) / tile_p, tiles_q = (s.Q + tile_q - 1) / tile_q;
      const int64_t tiles = int64_t{1} * tiles_p * tiles_q;
      if (best && tiles >= best) continue;
      best = tiles;
      params.tile_p = tile_p, params.tile_q = tile_q, params.tiles_p = tiles_p, params.tiles_q = tiles_q;
    }
    params.rows = (params.tile_p - 1) * s.stride_h + (s.R - 1) * s.dilation_h + 1;
    params.columns = (params.tile_q - 1) * s.stride_w + (s.S - 1) * s.dilation_w + 1;
    params.pitch = params.columns * s.C;
    const size_t size = p.dtype == DType::kFloat64 ? 8 : 4;
    const size_t row_bytes = static_cast<size_t>(s.C * s.S * (channels + 4)) * size;
    params.weight_rows = std::clamp<int>(static_cast<int>(40 * 1024 / row_bytes), 1, s.R);
    params.x_inner = FastDivmod(p.x_layout == Layout::kNhwc ? s.C : params.columns);
    params.c = FastDivmod(s.C), params.s = FastDivmod(s.S);
    params.vector_out = s.K % 4 == 0;
    const int64_t strip = (int64_t{1} * params.rows * params.pitch + 3) / 4 * 4;
    shared_bytes =
        std::max(static_cast<size_t>(strip) * size + static_cast<size_t>(params.weight_rows) * row_bytes, least_bytes);
  }
};

template <class Tile>
StemPlan stem_plan(const ConvProblem& p) {
  return StemPlan(p, Tile::kM, Tile::kN, sizeof(typename Tile::Shared));
}

/// Calls `body` with a null pointer to the tile for the problem.
template <class Body>
void with_stem_tile(const ConvProblem& p, Body&& body) {
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, double>) {
      body(static_cast<simt::Tile<T, 1, 2>*>(nullptr));
    } else if (p.K > 32) {
      body(static_cast<simt::Tile<T, 2, 2>*>(nullptr));
    } else {
      body(static_cast<simt::Tile<T, 2, 1>*>(nullptr));
    }
  });
}

inline const char* stem_why_not(const ConvProblem& p, Layout x_layout) {
  if (const char* reason = too_large(p)) return reason;
  if (!p.is_2d()) return "takes problems without a depth axis only";
  if (p.x_layout != x_layout) return x_layout == Layout::kNhwc ? "reads channels last only" : "reads NCHW only";
  if (p.y_layout != Layout::kNhwc) return "writes channels last only";
  if (p.C > 4) return "takes up to 4 input channels";
  if (p.groups != 1) return "takes one group";
  if (p.K > 64 * kMaxGridYZ) return "takes fewer output channels";
  for (int64_t reach : {p.stride_h, p.stride_w, p.R * p.dilation_h, p.S * p.dilation_w})
    if (reach > 1024) return "takes small filters and strides only";
  bool fits = false;
  with_stem_tile(
      p, [&](auto* tile) { fits = stem_plan<std::remove_pointer_t<decltype(tile)>>(p).shared_bytes <= 96 * 1024; });
  return fits ? nullptr : "takes strips of up to 96 KB only";
}

inline void run_stem(const char* name, const ConvProblem& p, const ConvArgs& args) {
  with_stem_tile(p, [&](auto* null) {
    using Tile = std::remove_pointer_t<decltype(null)>;
    using T = typename Tile::T;
    const StemPlan plan = stem_plan<Tile>(p);
    const int64_t tiles = p.N * plan.params.tiles_p * plan.params.tiles_q;
    const Launch at = {.grid = {static_cast<unsigned>(tiles), static_cast<unsigned>((p.K + Tile::kN - 1) / Tile::kN)},
                       .block = {simt::kThreads},
                       .shared_bytes = plan.shared_bytes,
                       .stream = args.stream};
    launch(name, p, stem<Tile>, at, plan.params, static_cast<const T*>(args.x), args.w, static_cast<T*>(args.out),
           args.epilogue);
  });
}

}  // namespace
}  // namespace fastconv
