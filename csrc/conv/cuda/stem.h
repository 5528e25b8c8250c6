// fprop of the first layer, up to 4 input channels: y[n,k,p,q] = sum over r,c,s of x[n,c,h,w] * w[k,c,r,s].
//
// A block makes a rectangle of 128 output pixels by 64 channels (32 where K has no more, 64 pixels in float64). It
// keeps the strip of x under the rectangle in shared memory as [h][c][w] in the accumulator's type, so that reading
// NCHW and NHWC differ in the copy alone, and the weight as [r][c][s][k], as many filter rows at a time as 40 KB hold.
// Each thread keeps 8 pixels x 8 channels (x 4 where K has no more than 32). A tap is 8 loads of x from shared memory,
// of a cycle each, for a warp's lie in 8 neighbouring columns, and 2 of w, of two cycles each (simt_gemm.h): 12 cycles
// for the 16 of its 64 FMAs (10 for 8 with 32 FMAs).
//
// Floors on an H200 for 7x7/2, 3 to 64 channels, 112 x 112, a batch of 128: 15.1 GFMA, 450 us at the FMA peak;
// 411 MB of y in float32, 96 us. With 3x3 filters and half precision the write of y is the floor.
#pragma once

#include <algorithm>

#include "conv/cuda/stem_strip.h"
#include "core/cuda/epilogue.h"

namespace fastconv {
namespace {

struct StemParams {
  Strip strip;
  int weight_rows = 0;  // filter rows at a time
  FastDivmod c = {}, s = {};
  bool vector_out = false;
};

/// Pixel `m` of the rectangle. Lanes that differ in a quad of rows get neighbouring columns.
__device__ __forceinline__ void stem_pixel(const Strip& t, int m, int* p, int* q) {
  const int group = m / 32 * 4 + m % 4, groups = t.tile_q / 8;
  *p = group / groups;
  *q = group % groups * 8 + m % 32 / 4;
}

/// Copies filter rows r .. r + rows - 1 of channels k .. k + kN - 1 as [r][c][s][kPitch]; zeros behind K. A lane a tap.
template <class T, int kN, int kPitch>
__device__ __forceinline__ void load_weight(const StemParams& t, const Filter& w, int k_first, int r_first, int rows,
                                            Accumulator<T>* weight) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int e = lane; e < rows * t.strip.p.S * t.strip.p.C; e += kWarpSize) {
    int tap, r;
    const int c = t.c.divmod(e, &tap), s = t.s.divmod(tap, &r);
    const T* from = static_cast<const T*>(w.data) + w.offset(0, k_first, c, 0, r_first + r, s);
    Accumulator<T>* to = weight + ((r * t.strip.p.C + c) * t.strip.p.S + s) * kPitch;
#pragma unroll 4
    for (int k = warp; k < kN; k += simt::kThreads / kWarpSize)
      to[k] = k_first + k < t.strip.p.K ? widen(from[k * w.stride_k]) : Accumulator<T>(0);
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
  A* weight = strip + t.strip.elements();
  const ConvShape& shape = t.strip.p;
  const Rectangle rectangle(t.strip, static_cast<int>(blockIdx.x));
  const int k_first = static_cast<int>(blockIdx.y) * Tile::kN;
  load_strip<T>(t.strip, x, rectangle, strip);

  const simt::Squares<Tile> at;
  const A* pixels[4 * Tile::kQuadsM];
  simt::Sums<Tile> sums;
#pragma unroll
  for (int m = 0; m < 4 * Tile::kQuadsM; ++m) {
    int p, q;
    stem_pixel(t.strip, at.m + m / 4 * 32 + m % 4, &p, &q);
    pixels[m] = strip + p * shape.stride_h * t.strip.pitch + q * shape.stride_w;
#pragma unroll
    for (int i = 0; i < 4 * Tile::kQuadsN; ++i) sums[m][i] = 0;
  }

#pragma unroll 1
  for (int r_first = 0; r_first < shape.R; r_first += t.weight_rows) {
    const int rows = shape.R - r_first < t.weight_rows ? shape.R - r_first : t.weight_rows;
    load_weight<T, Tile::kN, kPitch>(t, w, k_first, r_first, rows, weight);
    __syncthreads();
    const A* taps = weight + at.n;
#pragma unroll 1
    for (int rc = 0; rc < rows * shape.C; ++rc) {
      const int line = (r_first + rc / shape.C) * shape.dilation_h * t.strip.pitch + rc % shape.C * t.strip.columns;
      int s = 0;
      if (shape.dilation_w == 1) {
#pragma unroll 1
        for (; s + 4 <= shape.S; s += 4) {
#pragma unroll
          for (int i = 0; i < 4; ++i) multiply_tap<Tile, kPitch>(pixels, line + s + i, taps + i * kPitch, sums);
          taps += 4 * kPitch;
        }
      }
#pragma unroll 1
      for (; s < shape.S; ++s, taps += kPitch)
        multiply_tap<Tile, kPitch>(pixels, line + s * shape.dilation_w, taps, sums);
    }
    __syncthreads();
  }

  simt::for_each_quad<Tile>(sums, out, [&](int row, int column, const auto& quad) {
    int p, q;
    stem_pixel(t.strip, row, &p, &q);
    p += rectangle.p, q += rectangle.q;
    const int k = k_first + column, left = shape.K - k;
    if (p >= shape.P || q >= shape.Q || left <= 0) return;
    const int64_t to = shape.y.at(rectangle.n, k, 0, p, q);
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
  int64_t shared_bytes;

  StemPlan(const ConvProblem& p, int pixels, int channels, int64_t least_bytes) : params{.strip = Strip(p, pixels)} {
    const int64_t size = p.dtype == DType::kFloat64 ? 8 : 4, row_bytes = p.C * p.S * (channels + 4) * size;
    params.weight_rows = static_cast<int>(std::clamp<int64_t>(40 * 1024 / row_bytes, 1, p.R));
    params.c = FastDivmod(params.strip.p.C), params.s = FastDivmod(params.strip.p.S);
    params.vector_out = p.K % 4 == 0;
    shared_bytes = std::max(params.strip.elements() * size + params.weight_rows * row_bytes, least_bytes);
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
  if (const char* reason = strip_why_not(p, x_layout)) return reason;
  bool fits = false;
  with_stem_tile(p, [&](auto* tile) {
    fits = stem_plan<std::remove_pointer_t<decltype(tile)>>(p).shared_bytes <= kMostStripBytes;
  });
  return fits ? nullptr : "takes strips of up to 96 KB only";
}

inline void run_stem(const char* name, const ConvProblem& p, const ConvArgs& args) {
  with_stem_tile(p, [&](auto* null) {
    using Tile = std::remove_pointer_t<decltype(null)>;
    using T = typename Tile::T;
    const StemPlan plan = stem_plan<Tile>(p);
    const Launch at = {.grid = {static_cast<unsigned>(plan.params.strip.tiles()),
                                static_cast<unsigned>((p.K + Tile::kN - 1) / Tile::kN)},
                       .block = {simt::kThreads},
                       .shared_bytes = static_cast<size_t>(plan.shared_bytes),
                       .stream = args.stream};
    launch(name, p, stem<Tile>, at, plan.params, static_cast<const T*>(args.x), args.w, static_cast<T*>(args.out),
           args.epilogue);
  });
}

}  // namespace
}  // namespace fastconv
