// What the rows of the first layer share: the rectangle of output pixels that a block takes, and the strip of x under
// it in shared memory, [h][c][w] in the accumulator's type. Reading NCHW and NHWC differ in this copy alone.
#pragma once

#include "conv/cuda/shape.h"
#include "core/cuda/fast_divmod.h"
#include "core/cuda/launch.h"
#include "core/cuda/simt_gemm.h"

namespace fastconv {
namespace {

/// A rectangle of outputs, and the strip of x that it reads.
struct Strip {
  ConvShape p;
  int tile_p = 0, tile_q = 0, tiles_p = 0, tiles_q = 0;
  int rows = 0, columns = 0, pitch = 0;  // of the strip; `pitch` is that of a row of all channels
  FastDivmod x_inner = {};               // what lies innermost in x: its channels, or the strip's columns
  bool channels_inside = false;

  /// The rectangle of `pixels` that wastes the fewest outputs; of equals, the one nearest to a square.
  Strip(const ConvProblem& problem, int pixels) : p(shape_of(problem)) {
    int64_t best = 0;
    for (int q : {16, 8, 32, 64, 128}) {
      if (q > pixels) continue;
      const int along_p = (p.P + pixels / q - 1) / (pixels / q), along_q = (p.Q + q - 1) / q;
      const int64_t tiles = int64_t{1} * along_p * along_q;
      if (best && tiles >= best) continue;
      best = tiles;
      tile_p = pixels / q, tile_q = q, tiles_p = along_p, tiles_q = along_q;
    }
    rows = (tile_p - 1) * p.stride_h + (p.R - 1) * p.dilation_h + 1;
    columns = (tile_q - 1) * p.stride_w + (p.S - 1) * p.dilation_w + 1;
    pitch = columns * p.C;
    channels_inside = problem.x_layout == Layout::kNhwc;
    x_inner = FastDivmod(channels_inside ? p.C : columns);
  }

  /// In shared memory, rounded up to quads.
  __host__ __device__ int64_t elements() const { return (int64_t{1} * rows * pitch + 3) / 4 * 4; }
  int64_t tiles() const { return int64_t{1} * p.N * tiles_p * tiles_q; }
};

/// Where rectangle `tile` of a batch begins.
struct Rectangle {
  int n, p, q;
  __device__ __forceinline__ Rectangle(const Strip& s, int tile) {
    q = tile % s.tiles_q * s.tile_q;
    tile /= s.tiles_q;
    p = tile % s.tiles_p * s.tile_p;
    n = tile / s.tiles_p;
  }
};

/// Copies the strip under a rectangle; zeros outside the image. A warp a row.
template <class T>
__device__ __forceinline__ void load_strip(const Strip& t, const T* x, const Rectangle& at, Accumulator<T>* strip) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int h_first = at.p * t.p.stride_h - t.p.pad_h, w_first = at.q * t.p.stride_w - t.p.pad_w;
  for (int e = lane; e < t.columns * t.p.C; e += kWarpSize) {
    int outer;
    const int inner = t.x_inner.divmod(e, &outer), c = t.channels_inside ? inner : outer;
    const int column = t.channels_inside ? outer : inner, w = w_first + column;
    const bool inside = static_cast<unsigned>(w) < static_cast<unsigned>(t.p.W);
#pragma unroll 4
    for (int row = warp; row < t.rows; row += simt::kThreads / kWarpSize) {
      const int h = h_first + row;
      T value{};
      if (inside && static_cast<unsigned>(h) < static_cast<unsigned>(t.p.H)) value = x[t.p.x.at(at.n, c, 0, h, w)];
      strip[row * t.pitch + c * t.columns + column] = widen(value);
    }
  }
}

inline const char* strip_why_not(const ConvProblem& p, Layout x_layout) {
  if (const char* reason = too_large(p)) return reason;
  if (!p.is_2d()) return "takes problems without a depth axis only";
  if (p.x_layout != x_layout) return x_layout == Layout::kNhwc ? "reads channels last only" : "reads NCHW only";
  if (p.y_layout != Layout::kNhwc) return "takes y in channels last only";
  if (p.C > 4) return "takes up to 4 input channels";
  if (p.groups != 1) return "takes one group";
  if (p.K > 32 * kMaxGridYZ) return "takes fewer output channels";
  for (int64_t reach : {p.stride_h, p.stride_w, p.R * p.dilation_h, p.S * p.dilation_w})
    if (reach > 1024) return "takes small filters and strides only";
  return nullptr;
}

constexpr int64_t kMostStripBytes = 96 * 1024;  // of shared memory that every GPU from sm_80 on has for a block

}  // namespace
}  // namespace fastconv
