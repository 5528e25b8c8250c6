// Convolution by the explicit matrix: row (n, p, q), column (g, r, s, c), in the workspace.
//
//   fprop  y = columns * w          columns gathered from x, then a product with the epilogue
//   dgrad  columns = dy * w         then dx gathers the columns that it went to: no atomics
//   wgrad  dw = columns' * dy       parts of the pixels, added in a fixed order
//
// Columns of a group are rounded up to quads (zeros in fprop and wgrad), so that every load of them is a vector; so is
// the packed weight [k][column]. As many images at a time as 64 MB of columns hold, one at least. Any stride, padding,
// dilation, groups. Beside the FMAs the matrix is written and read once: R * S times the bytes of x, twice.
#pragma once

#include <algorithm>

#include "conv/cuda/shape.h"
#include "core/cuda/epilogue.h"
#include "core/cuda/fast_divmod.h"
#include "core/cuda/launch.h"
#include "core/cuda/simt_gemm.h"

namespace fastconv {
namespace {

struct ColumnShape {
  ConvShape p;
  int depth, pitch;  // columns of a group, and those rounded up to quads
  bool vector_c;     // quads of channels stay in a tap
  FastDivmod row_quads, group_quads, q, y_h, c, s;

  explicit ColumnShape(const ConvProblem& problem)
      : p(shape_of(problem)),
        depth(p.R * p.S * p.C_per_group),
        pitch((depth + 3) / 4 * 4),
        vector_c(p.C_per_group % 4 == 0),
        row_quads(p.groups * (pitch / 4)),
        group_quads(pitch / 4),
        q(p.Q > 0 ? p.Q : 1),
        y_h(p.P > 0 ? p.P : 1),
        c(p.C_per_group),
        s(p.S) {}

  /// Column `d` of a group as a tap and a channel.
  __device__ __forceinline__ void tap(int d, int* r_out, int* s_out, int* c_out) const {
    int taps;
    *c_out = c.divmod(d, &taps);
    *s_out = s.divmod(taps, r_out);
  }
};

/// How many images at a time, and where in the workspace what lies.
struct ColumnPlan {
  static constexpr int64_t kMostBytes = int64_t{64} << 20;
  int64_t images, column_bytes, first_bytes;

  /// `first_bytes`: what lies before the columns (the packed weight, or parts of dw).
  ColumnPlan(const ConvProblem& p, int64_t element_bytes, int64_t bytes_before)
      : images(0), column_bytes(0), first_bytes((bytes_before + 255) / 256 * 256) {
    const int64_t image = std::max<int64_t>(p.P * p.Q * row_elements(p) * element_bytes, 1);
    images = std::clamp<int64_t>(kMostBytes / image, 1, std::max<int64_t>(p.N, 1));
    column_bytes = images * image;
  }
  static int64_t row_elements(const ConvProblem& p) { return p.groups * ((p.R * p.S * p.C_per_group() + 3) / 4 * 4); }
  static int64_t weight_bytes(const ConvProblem& p) {
    return p.K * (row_elements(p) / p.groups) * element_size(p.dtype);
  }
  size_t bytes() const { return static_cast<size_t>(first_bytes + column_bytes); }
};

inline const char* im2col_why_not(const ConvProblem& p) {
  if (const char* reason = too_large(p)) return reason;
  if (!p.is_2d()) return "takes problems without a depth axis only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels last only";
  if (p.groups > kMaxGridYZ) return "takes fewer than 65536 groups";
  if (p.P * p.Q * ColumnPlan::row_elements(p) >= int64_t{1} << 31)
    return "takes images whose matrix has fewer than 2^31 elements";
  return nullptr;
}

constexpr int kColumnThreads = 256;

inline Launch column_launch(int64_t threads, const ConvArgs& args) {
  return {.grid = {static_cast<unsigned>((threads + kColumnThreads - 1) / kColumnThreads)},
          .block = {kColumnThreads},
          .stream = args.stream};
}

/// columns[row][g][r, s, c] = x, for `rows` pixels of the images at `x`. A thread a quad of columns.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    gather_columns(ColumnShape m, int64_t quads, const T* __restrict__ x, T* columns) {
  const int64_t index = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (index >= quads) return;
  int row, g, line, n;
  const int in_row = m.row_quads.divmod(static_cast<int>(index), &row);
  const int d = m.group_quads.divmod(in_row, &g) * 4;
  const int q = m.q.divmod(row, &line), p = m.y_h.divmod(line, &n);
  const auto place = [&](int column) -> const T* {
    int r, s, c;
    m.tap(column, &r, &s, &c);
    const int h = p * m.p.stride_h - m.p.pad_h + r * m.p.dilation_h;
    const int w = q * m.p.stride_w - m.p.pad_w + s * m.p.dilation_w;
    if (h < 0 || h >= m.p.H || w < 0 || w >= m.p.W) return nullptr;
    return x + (((int64_t{1} * n * m.p.H + h) * m.p.W + w) * m.p.C + g * m.p.C_per_group + c);
  };
  Pack<T, 4> quad = {};
  if (m.vector_c) {
    if (const T* from = place(d)) quad = simt::elements_of<T>(simt::load_quad(from));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (d + i < m.depth)
        if (const T* from = place(d + i)) quad.at[i] = *from;
  }
  simt::store_quad(columns + index * 4, quad);
}

/// packed[k][r, s, c] = w, zeros where columns are rounded up. A thread an element.
template <class T>
__global__ void __launch_bounds__(kColumnThreads) pack_weight(ColumnShape m, Filter w, int64_t elements, T* packed) {
  const int64_t index = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (index >= elements) return;
  const int channel = static_cast<int>(index / m.pitch), d = static_cast<int>(index % m.pitch);
  int r, s, c;
  m.tap(d, &r, &s, &c);
  const int g = channel / m.p.K_per_group, k = channel % m.p.K_per_group;
  packed[index] = d < m.depth ? static_cast<const T*>(w.data)[w.offset(g, k, c, 0, r, s)] : T{};
}

template <class T>
void launch_pack_weight(const char* name, const ConvProblem& p, const ConvArgs& args) {
  const ColumnShape m(p);
  const int64_t elements = int64_t{1} * m.p.K * m.pitch;
  launch(name, p, pack_weight<T>, column_launch(elements, args), m, args.w, elements, static_cast<T*>(args.workspace));
}

template <class T>
void launch_gather_columns(const char* name, const ConvProblem& p, const ConvArgs& args, int64_t image, int64_t images,
                           T* columns) {
  const ColumnShape m(p);
  const int64_t quads = images * p.P * p.Q * m.row_quads.divisor();
  launch(name, p, gather_columns<T>, column_launch(quads, args), m, quads,
         static_cast<const T*>(args.x) + image * p.H * p.W * p.C, columns);
}

/// A dense matrix: element (row, k) at row * pitch + k, or at k * pitch + row. Pitches and `from` allow vectors, or
/// not.
template <class T, simt::Along kAlong>
class MatrixSource {
 public:
  __device__ __forceinline__ MatrixSource(const T* from, int64_t pitch, int rows, int depth, bool vector)
      : from_(from), pitch_(pitch), rows_(rows), depth_(depth), vector_(vector) {}

  __device__ __forceinline__ simt::Quad<T> quad(int, int row, int k) const {
    if (row >= rows_ || k >= depth_) return {};
    const bool along_depth = kAlong == simt::Along::kDepth;
    const T* at = from_ + (along_depth ? row * pitch_ + k : k * pitch_ + row);
    return vector_ ? simt::load_quad(at) : simt::gather_quad(at, 1, along_depth ? depth_ - k : rows_ - row);
  }
  __device__ __forceinline__ void next() {
    from_ += kAlong == simt::Along::kDepth ? simt::kStep : simt::kStep * pitch_;
    depth_ -= simt::kStep;
  }

 private:
  const T* from_;
  int64_t pitch_;
  int rows_, depth_;
  bool vector_;
};

/// 128 x 64 sums a block, or 64 x 32 where that would leave a large GPU idle; 64 x 64 in float64.
template <class T, class Body>
void with_matrix_tile(int64_t gemm_m, int64_t gemm_n, int64_t batches, Body&& body) {
  if constexpr (std::is_same_v<T, double>) {
    body(static_cast<simt::Tile<T, 1, 2>*>(nullptr));
  } else if (gemm_n > 32 && (gemm_m + 127) / 128 * ((gemm_n + 63) / 64) * batches >= 256) {
    body(static_cast<simt::Tile<T, 2, 2>*>(nullptr));
  } else {
    body(static_cast<simt::Tile<T, 1, 1>*>(nullptr));
  }
}

/// The grid of a product a group: tiles of n then of m along x, groups along y.
template <class Tile>
Launch matrix_launch(int64_t gemm_m, int64_t gemm_n, int64_t groups, int64_t parts, const ConvArgs& args) {
  const int64_t tiles = (gemm_m + Tile::kM - 1) / Tile::kM * ((gemm_n + Tile::kN - 1) / Tile::kN);
  return {.grid = {static_cast<unsigned>(tiles), static_cast<unsigned>(groups), static_cast<unsigned>(parts)},
          .block = {simt::kThreads},
          .shared_bytes = sizeof(typename Tile::Shared),
          .stream = args.stream};
}

template <class Tile>
struct TilePlace {
  int m, n;
  __device__ __forceinline__ explicit TilePlace(int gemm_n) {
    const int n_tiles = (gemm_n + Tile::kN - 1) / Tile::kN, tile = static_cast<int>(blockIdx.x);
    m = tile / n_tiles * Tile::kM, n = tile % n_tiles * Tile::kN;
  }
};

}  // namespace
}  // namespace fastconv
