// The end of a wgrad that is a SIMT matrix product over a part of the pixels: partial sums in the workspace, which
// add_splits.h adds. gemm_m = (r, s, c), gemm_n = k, both in a group.
#pragma once

#include <algorithm>

#include "conv/cuda/add_splits.h"
#include "conv/cuda/shape.h"
#include "core/cuda/fast_divmod.h"
#include "core/cuda/launch.h"
#include "core/cuda/simt_gemm.h"

namespace fastconv {
namespace {

/// The result of a wgrad as a matrix a group: row (r, s, c), column k.
struct FilterMatrix {
  int gemm_m, gemm_n, pitch;  // pitch: gemm_n rounded up to quads, as partial sums lie
  FastDivmod c, s;

  explicit FilterMatrix(const ConvShape& p)
      : gemm_m(p.R * p.S * p.C_per_group),
        gemm_n(p.K_per_group),
        pitch((p.K_per_group + 3) / 4 * 4),
        c(p.C_per_group),
        s(p.S) {}

  template <class T>
  __device__ __forceinline__ T* at(const Filter& dw, int g, int m, int n) const {
    int tap, r;
    const int channel = c.divmod(m, &tap), s_tap = s.divmod(tap, &r);
    return static_cast<T*>(dw.data) + dw.offset(g, n, channel, 0, r, s_tap);
  }
};

/// How the pixels are cut: `count` parts of `pixels` each.
struct Parts {
  int count, pixels;

  static int64_t matrix_bytes(const ConvProblem& p) {
    return p.groups * p.R * p.S * p.C_per_group() * ((p.K_per_group() + 3) / 4 * 4) *
           (p.dtype == DType::kFloat64 ? 8 : 4);
  }

  /// Enough blocks to fill a large GPU twice, of 256 pixels or more, in at most 64 MB.
  static Parts of(const ConvProblem& p, int64_t pixels, int64_t tiles) {
    constexpr int64_t kBlocks = 800, kLeastPixels = 256, kMostBytes = int64_t{64} << 20;
    const int64_t most =
        std::min({(pixels + kLeastPixels - 1) / kLeastPixels, kMostBytes / matrix_bytes(p), kMaxGridYZ});
    const int64_t count = std::clamp<int64_t>(kBlocks / tiles, 1, std::max<int64_t>(most, 1));
    const int64_t each = ((pixels + count - 1) / count + simt::kStep - 1) / simt::kStep * simt::kStep;
    return {each ? static_cast<int>((pixels + each - 1) / each) : 1, static_cast<int>(each)};
  }
};

/// Stores a tile: into `part` [groups][gemm_m][pitch], or, where that is null, as the result. `add`: to what is there.
template <class Tile>
__device__ __forceinline__ void store_tile(const simt::Sums<Tile>& sums, typename Tile::Shared& shared,
                                           const FilterMatrix& matrix, typename Tile::A* part, const Filter& dw, int g,
                                           int m_first, int n_first, bool add = false) {
  using T = typename Tile::T;
  simt::for_each_quad<Tile>(sums, shared, [&](int row, int column, auto quad) {
    const int m = m_first + row, n = n_first + column;
    if (m >= matrix.gemm_m || n >= matrix.gemm_n) return;
    if (part) {
      auto* to = part + (int64_t{1} * g * matrix.gemm_m + m) * matrix.pitch + n;
      if (add) {
        const auto before = simt::load_quad(to);
#pragma unroll
        for (int i = 0; i < 4; ++i) quad.at[i] += before.at[i];
      }
      simt::store_quad(to, quad);
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (n + i < matrix.gemm_n) *matrix.at<T>(dw, g, m, n + i) = narrow<T>(quad.at[i]);
  });
}

/// Writes quads of [groups][gemm_m][pitch].
template <class Element>
struct WriteColumns {
  using T = Element;
  FilterMatrix matrix;
  Filter dw;

  __device__ __forceinline__ void operator()(int quad, const Pack<Accumulator<T>, 4>& sum) const {
    const int across = matrix.pitch / 4, row = quad / across, n = quad % across * 4;
    const int g = row / matrix.gemm_m, m = row % matrix.gemm_m;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (n + i < matrix.gemm_n) *matrix.at<T>(dw, g, m, n + i) = narrow<T>(sum.at[i]);
  }
};

template <class T>
void launch_sum_parts(const char* name, const ConvProblem& p, const ConvArgs& args, int count) {
  const FilterMatrix matrix(shape_of(p));
  const int64_t quads = p.groups * matrix.gemm_m * matrix.pitch / 4;
  launch_add_splits(name, p, args, count, quads, WriteColumns<T>{matrix, args.w});
}

}  // namespace
}  // namespace fastconv
