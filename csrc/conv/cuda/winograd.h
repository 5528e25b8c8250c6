// What the Winograd rows share: the grid of tiles, the transforms, and the filter's transform into the workspace.
//
// Y = At [(G g Gt) * (Bt d B)] A for tiles of m x m outputs; docs/winograd.md has the matrices. A dilated problem is
// dilation_h * dilation_w interleaved ones, whose tiles are simply more tiles (as in conv/cpu/winograd_plan.h); only
// those that have outputs count, which a large dilation leaves most without.
#pragma once

#include <algorithm>

#include "conv/cuda/shape.h"
#include "core/cuda/epilogue.h"
#include "core/cuda/fast_divmod.h"
#include "core/cuda/launch.h"
#include "core/winograd_points.h"

namespace fastconv {
namespace {

constexpr int kPanel = 64;  // output channels of a panel of U
constexpr int kChunk = 8;   // input channels that the products take at a time
static_assert(kPanel == 1 << 6 && kChunk == 1 << 3);

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Null where Winograd's rows take the problem, else the reason.
inline const char* winograd_why_not(const ConvProblem& p) {
  if (const char* reason = too_large(p)) return reason;
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels last on both sides";
  if (!p.is_2d()) return "takes 2-d problems only";
  if (p.R != 3 || p.S != 3) return "takes 3x3 filters only";
  if (!p.has_unit_stride()) return "takes stride 1 only";
  if (p.groups != 1) return "takes one group only";
  // Panels of K lie along a grid's y; 32-bit indices of a portion's channels (winograd_f4.h) allow no more for C.
  if (std::max(p.C, p.K) > kMaxGridYZ * kPanel) return "takes up to 4194240 channels only";
  return nullptr;
}

/// The tiles of a problem: columns of a row first, then rows, sub-grids of the dilation, images.
struct TileGrid {
  int H, W, P, Q, pad_h, pad_w, dilation_h, dilation_w;
  int tiles;
  FastDivmod columns, rows, subs_w, subs_h;

  /// Image and first output of a tile; its others are a dilation apart.
  struct Tile {
    int n, p, q;
  };
  template <int kM>
  __device__ __forceinline__ Tile tile(int index) const {
    int i, b, a;
    const int j = columns.divmod(index, &index);
    i = rows.divmod(index, &index);
    b = subs_w.divmod(index, &index);
    a = subs_h.divmod(index, &index);
    return {index, a + i * kM * dilation_h, b + j * kM * dilation_w};
  }
};

/// Along one axis: the interleaved problems that have outputs, and the tiles of each.
struct TileAxis {
  int64_t subs, tiles;
};

template <int kM>
TileAxis tile_axis(int64_t outputs, int64_t dilation) {
  return {std::min(dilation, outputs), divide_up(divide_up(outputs, dilation), kM)};
}

/// No more than the outputs of a channel.
template <int kM>
int64_t count_tiles(const ConvProblem& p) {
  const TileAxis h = tile_axis<kM>(p.P, p.dilation_h), w = tile_axis<kM>(p.Q, p.dilation_w);
  return p.N * h.subs * h.tiles * w.subs * w.tiles;
}

/// Assumes: there are tiles.
template <int kM>
TileGrid tile_grid(const ConvProblem& p) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  const TileAxis h = tile_axis<kM>(p.P, p.dilation_h), w = tile_axis<kM>(p.Q, p.dilation_w);
  return {i(p.H),
          i(p.W),
          i(p.P),
          i(p.Q),
          i(p.pad_h),
          i(p.pad_w),
          i(p.dilation_h),
          i(p.dilation_w),
          i(count_tiles<kM>(p)),
          FastDivmod(i(w.tiles)),
          FastDivmod(i(h.tiles)),
          FastDivmod(i(w.subs)),
          FastDivmod(i(h.subs))};
}

/// The matrices of F(m, 3) on one line.
template <int kM>
struct Transform;

template <>
struct Transform<2> {
  static __device__ __forceinline__ void input(const float (&d)[4], float (&v)[4]) {
    v[0] = d[0] - d[2], v[1] = d[1] + d[2], v[2] = d[2] - d[1], v[3] = d[1] - d[3];
  }
  static __device__ __forceinline__ void filter(float g0, float g1, float g2, float (&u)[4]) {
    const float even = (g0 + g2) * 0.5f, odd = g1 * 0.5f;
    u[0] = g0, u[1] = even + odd, u[2] = even - odd, u[3] = g2;
  }
  static __device__ __forceinline__ void output(const float (&m)[4], float (&y)[2]) {
    y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3];
  }
};

template <>
struct Transform<4> {
  static constexpr float kNear = winograd_f4::kNear, kNear2 = winograd_f4::kNear2, kAtNear = winograd_f4::kAtNear;
  static constexpr float kFar = winograd_f4::kFar, kFar2 = winograd_f4::kFar2, kAtFar = winograd_f4::kAtFar;

  static __device__ __forceinline__ void input(const float (&d)[6], float (&v)[6]) {
    const float even1 = d[4] - kFar2 * d[2], odd1 = d[3] - kFar2 * d[1];
    const float even2 = d[4] - kNear2 * d[2], odd2 = d[3] - kNear2 * d[1];
    v[0] = kNear2 * kFar2 * d[0] + (d[4] - (kNear2 + kFar2) * d[2]);
    v[1] = even1 + kNear * odd1, v[2] = even1 - kNear * odd1;
    v[3] = even2 + kFar * odd2, v[4] = even2 - kFar * odd2;
    v[5] = kNear2 * kFar2 * d[1] + (d[5] - (kNear2 + kFar2) * d[3]);
  }
  static __device__ __forceinline__ void filter(float g0, float g1, float g2, float (&u)[6]) {
    const float even1 = kAtNear * g0 + kAtNear * kNear2 * g2, odd1 = kAtNear * kNear * g1;
    const float even2 = kAtFar * g0 + kAtFar * kFar2 * g2, odd2 = kAtFar * kFar * g1;
    u[0] = 1 / (kNear2 * kFar2) * g0;
    u[1] = even1 + odd1, u[2] = even1 - odd1;
    u[3] = even2 + odd2, u[4] = even2 - odd2;
    u[5] = g2;
  }
  static __device__ __forceinline__ void output(const float (&m)[6], float (&y)[4]) {
    const float even1 = m[1] + m[2], even2 = m[3] + m[4], odd1 = m[1] - m[2], odd2 = m[3] - m[4];
    y[0] = m[0] + even1 + even2;
    y[1] = kNear * odd1 + kFar * odd2;
    y[2] = kNear2 * even1 + kFar2 * even2;
    y[3] = kNear2 * kNear * odd1 + (kFar2 * kFar * odd2 + m[5]);
  }
};

/// d = Bt d B, in place.
template <int kM>
__device__ __forceinline__ void transform_input(float (&d)[kM + 2][kM + 2]) {
  constexpr int kTile = kM + 2;
#pragma unroll
  for (int s = 0; s < kTile; ++s) {
    float column[kTile], out[kTile];
#pragma unroll
    for (int r = 0; r < kTile; ++r) column[r] = d[r][s];
    Transform<kM>::input(column, out);
#pragma unroll
    for (int r = 0; r < kTile; ++r) d[r][s] = out[r];
  }
#pragma unroll
  for (int r = 0; r < kTile; ++r) {
    float out[kTile];
    Transform<kM>::input(d[r], out);
#pragma unroll
    for (int s = 0; s < kTile; ++s) d[r][s] = out[s];
  }
}

/// y = At m A, where `m(i)` is position i.
template <int kM, class Load>
__device__ __forceinline__ void transform_output(Load&& m, float (&y)[kM][kM]) {
  constexpr int kTile = kM + 2;
  float half[kM][kTile];
#pragma unroll
  for (int s = 0; s < kTile; ++s) {
    float column[kTile], out[kM];
#pragma unroll
    for (int r = 0; r < kTile; ++r) column[r] = m(r * kTile + s);
    Transform<kM>::output(column, out);
#pragma unroll
    for (int r = 0; r < kM; ++r) half[r][s] = out[r];
  }
#pragma unroll
  for (int r = 0; r < kM; ++r) Transform<kM>::output(half[r], y[r]);
}

/// Calls `body` with a constant that is `activation`; for kNone not at all.
template <class Body>
__device__ __forceinline__ void with_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kNone: return;
    case Activation::kRelu: return body(std::integral_constant<Activation, Activation::kRelu>());
    case Activation::kRelu6: return body(std::integral_constant<Activation, Activation::kRelu6>());
    case Activation::kHardSwish: return body(std::integral_constant<Activation, Activation::kHardSwish>());
    case Activation::kSilu: return body(std::integral_constant<Activation, Activation::kSilu>());
    case Activation::kSigmoid: return body(std::integral_constant<Activation, Activation::kSigmoid>());
  }
}

/// Finishes the outputs of `tile` that exist in channel k and writes them: what `finish` of epilogue.h does to one, but
/// the channel's scale and shift are read once, and the activation is chosen once.
template <int kM>
__device__ __forceinline__ void write_tile(const TileGrid& grid, const TileGrid::Tile& tile, float (&out)[kM][kM],
                                           int k, int K, const Epilogue& epilogue, float* __restrict__ y) {
  const float scale = epilogue.scale ? static_cast<const float*>(epilogue.scale)[k] : 1.f;
  const float shift = epilogue.shift ? static_cast<const float*>(epilogue.shift)[k] : 0.f;
  const int64_t first = ((int64_t{1} * tile.n * grid.P + tile.p) * grid.Q + tile.q) * K + k;
  const int64_t row = int64_t{1} * grid.dilation_h * grid.Q * K, column = int64_t{1} * grid.dilation_w * K;
  const auto each = [&](auto&& body) {
#pragma unroll
    for (int r = 0; r < kM; ++r)
#pragma unroll
      for (int s = 0; s < kM; ++s)
        if (tile.p + r * grid.dilation_h < grid.P && tile.q + s * grid.dilation_w < grid.Q)
          body(out[r][s], first + r * row + s * column);
  };
#pragma unroll
  for (int r = 0; r < kM; ++r)
#pragma unroll
    for (int s = 0; s < kM; ++s) out[r][s] = out[r][s] * scale + shift;
  if (epilogue.residual)
    each([&](float& value, int64_t index) { value += static_cast<const float*>(epilogue.residual)[index]; });
  with_activation(epilogue.activation, [&](auto activation) {
#pragma unroll
    for (int r = 0; r < kM; ++r)
#pragma unroll
      for (int s = 0; s < kM; ++s) out[r][s] = activate(out[r][s], decltype(activation)::value);
  });
  each([&](float value, int64_t index) { y[index] = value; });
}

/// U = G g Gt for C x K channels filled up to whole chunks and panels: [c][k] of a chunk and a panel are neighbours;
/// the strides say how chunks, panels and positions follow each other.
struct FilterLayout {
  int chunks, panels;
  int64_t position, chunk, panel;
};

constexpr int kFilterThreads = 256;

/// A block transforms one chunk x panel. It reads the filter in the order in which it lies, so that lanes read
/// neighbours, and passes it on through shared memory: 73 floats a k, odd, keep both sides free of bank conflicts.
template <int kM>
__global__ void __launch_bounds__(kFilterThreads)
    transform_filter(Filter w, unsigned C, unsigned K, FilterLayout layout, float* __restrict__ u) {
  struct Stage {
    float at[kPanel][kChunk * 9 + 1];
  };
  Stage& stage = shared_memory<Stage>();
  const unsigned c0 = blockIdx.x * kChunk, k0 = blockIdx.y * kPanel;
  const bool c_inside = w.stride_c < w.stride_k, taps_inside = w.stride_s == 1 || w.stride_s == -1;
  const unsigned bits = c_inside ? 3 : 6;  // kChunk or kPanel inside
#pragma unroll 6
  for (unsigned index = threadIdx.x; index < kPanel * kChunk * 9; index += kFilterThreads) {
    const unsigned outer = (index >> bits) / 9, rest = index - (outer * 9 << bits);
    const unsigned inner = taps_inside ? rest / 9 : rest & ((1u << bits) - 1);
    const unsigned tap = taps_inside ? rest % 9 : rest >> bits;
    const unsigned c = c_inside ? inner : outer, k = c_inside ? outer : inner;
    stage.at[k][c * 9 + tap] = c0 + c < C && k0 + k < K
                                   ? static_cast<const float*>(w.data)[w.offset(0, k0 + k, c0 + c, 0, tap / 3, tap % 3)]
                                   : 0.f;
  }
  __syncthreads();
  constexpr int kTile = kM + 2;
  u += blockIdx.x * layout.chunk + blockIdx.y * layout.panel;
  for (int index = threadIdx.x; index < kPanel * kChunk; index += kFilterThreads) {
    const float* g = stage.at[index % kPanel] + index / kPanel * 9;
    float columns[3][kTile];
#pragma unroll
    for (int s = 0; s < 3; ++s) Transform<kM>::filter(g[s], g[3 + s], g[6 + s], columns[s]);
#pragma unroll
    for (int r = 0; r < kTile; ++r) {
      float row[kTile];
      Transform<kM>::filter(columns[0][r], columns[1][r], columns[2][r], row);
#pragma unroll
      for (int s = 0; s < kTile; ++s) u[(r * kTile + s) * layout.position + index] = row[s];
    }
  }
}

template <int kM>
void launch_transform_filter(const char* name, const ConvProblem& p, const FilterLayout& layout, const Filter& w,
                             float* u, void* stream) {
  const Launch at = {.grid = {static_cast<unsigned>(layout.chunks), static_cast<unsigned>(layout.panels)},
                     .block = {kFilterThreads},
                     .shared_bytes = kPanel * (kChunk * 9 + 1) * sizeof(float),
                     .stream = stream};
  launch(name, p, transform_filter<kM>, at, w, static_cast<unsigned>(p.C), static_cast<unsigned>(p.K), layout, u);
}

}  // namespace
}  // namespace fastconv
