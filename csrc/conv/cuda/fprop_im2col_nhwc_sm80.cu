// y[n,k,p,q] = sum over the columns of pixel (n, p, q) of columns * w: the explicit matrix, then a product. See
// im2col.h.

#include "conv/cuda/im2col.h"

namespace fastconv {
namespace {

constexpr const char* kName = "conv_fprop_im2col_nhwc_sm80";

/// y of `rows` pixels, from their columns. Grid: matrix_launch.
template <class Tile>
__global__ void __launch_bounds__(simt::kThreads, Tile::kBlocksPerSm)
    multiply_columns(ColumnShape p, int rows, const typename Tile::T* __restrict__ columns,
                     const typename Tile::T* __restrict__ weight, typename Tile::T* y, int64_t first,
                     Epilogue epilogue) {
  using T = typename Tile::T;
  auto& shared = shared_memory<typename Tile::Shared>();
  const int g = static_cast<int>(blockIdx.y), gemm_n = p.p.K_per_group;
  const TilePlace<Tile> at(gemm_n);
  const int64_t row_pitch = int64_t{1} * p.p.groups * p.pitch;
  constexpr simt::Along kAlong = simt::Along::kDepth;
  simt::Sums<Tile> sums;
  simt::multiply<Tile, kAlong, kAlong>(
      MatrixSource<T, kAlong>(columns + at.m * row_pitch + g * p.pitch, row_pitch, rows - at.m, p.pitch, true),
      MatrixSource<T, kAlong>(weight + (int64_t{1} * g * gemm_n + at.n) * p.pitch, p.pitch, gemm_n - at.n, p.pitch,
                              true),
      (p.pitch + simt::kStep - 1) / simt::kStep, shared, sums);
  simt::for_each_quad<Tile>(sums, shared, [&](int row, int column, const auto& quad) {
    const int left = gemm_n - at.n - column, k = g * gemm_n + at.n + column;
    if (at.m + row >= rows || left <= 0) return;
    const int64_t to = (first + at.m + row) * p.p.K + k;
    Pack<T, 4> result;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i < left) result.at[i] = narrow<T>(finish<T>(quad.at[i], epilogue, k + i, to + i));
    if (gemm_n % 4 == 0) {
      simt::store_quad(y + to, result);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i < left) y[to + i] = result.at[i];
    }
  });
}

ColumnPlan plan_of(const ConvProblem& p) { return ColumnPlan(p, element_size(p.dtype), ColumnPlan::weight_bytes(p)); }

void run(const ConvProblem& p, const ConvArgs& args) {
  const ColumnPlan plan = plan_of(p);
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* weight = static_cast<const T*>(args.workspace);
    T* columns = reinterpret_cast<T*>(static_cast<char*>(args.workspace) + plan.first_bytes);
    launch_pack_weight<T>(kName, p, args);
    for (int64_t image = 0; image < p.N; image += plan.images) {
      const int64_t images = std::min(plan.images, p.N - image), rows = images * p.P * p.Q;
      launch_gather_columns<T>(kName, p, args, image, images, columns);
      with_matrix_tile<T>(rows, p.K_per_group(), p.groups, [&](auto* null) {
        using Tile = std::remove_pointer_t<decltype(null)>;
        launch(kName, p, multiply_columns<Tile>, matrix_launch<Tile>(rows, p.K_per_group(), p.groups, 1, args),
               ColumnShape(p), static_cast<int>(rows), static_cast<const T*>(columns), weight,
               static_cast<T*>(args.out), image * p.P * p.Q, args.epilogue);
      });
    }
  });
}

size_t workspace(const ConvProblem& p) { return plan_of(p).bytes(); }

}  // namespace

FASTCONV_DEFINE(Conv, conv_fprop_im2col_nhwc_sm80) = {
    .algorithm = Algorithm::kIm2col, .why_not = im2col_why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
