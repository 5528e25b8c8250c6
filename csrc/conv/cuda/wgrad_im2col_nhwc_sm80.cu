// dw[k][r, s, c] = sum over pixels of columns[pixel][r, s, c] * dy[pixel][k]: the explicit matrix, then a product. See
// im2col.h.
//
// Portions of images follow each other; the pixels of one are cut into parts that blocks take side by side. A part adds
// each portion to its sums, and the parts are added in their order at the end.

#include "conv/cuda/im2col.h"
#include "conv/cuda/wgrad_parts.h"

namespace fastconv {
namespace {

constexpr const char* kName = "conv_wgrad_im2col_nhwc_sm80";

/// Grid: matrix_launch, parts along z.
template <class Tile>
__global__ void __launch_bounds__(simt::kThreads, Tile::kBlocksPerSm)
    multiply_columns(ColumnShape p, FilterMatrix matrix, int rows, int rows_per_part,
                     const typename Tile::T* __restrict__ columns, const typename Tile::T* __restrict__ dy,
                     typename Tile::A* parts, Filter dw, bool add) {
  using T = typename Tile::T;
  auto& shared = shared_memory<typename Tile::Shared>();
  const int g = static_cast<int>(blockIdx.y);
  const TilePlace<Tile> at(matrix.gemm_n);
  const int64_t pitch = int64_t{1} * p.p.groups * p.pitch, first = int64_t{1} * blockIdx.z * rows_per_part;
  const int64_t left = rows - first < rows_per_part ? rows - first : rows_per_part;
  const int depth = left > 0 ? static_cast<int>(left) : 0;
  constexpr simt::Along kAlong = simt::Along::kRows;
  simt::Sums<Tile> sums;
  simt::multiply<Tile, kAlong, kAlong>(
      MatrixSource<T, kAlong>(columns + first * pitch + g * p.pitch + at.m, pitch, p.pitch - at.m, depth, true),
      MatrixSource<T, kAlong>(dy + first * p.p.K + g * matrix.gemm_n + at.n, p.p.K, matrix.gemm_n - at.n, depth,
                              matrix.gemm_n % 4 == 0),
      (depth + simt::kStep - 1) / simt::kStep, shared, sums);
  if (parts) parts += int64_t{1} * blockIdx.z * gridDim.y * matrix.gemm_m * matrix.pitch;
  store_tile<Tile>(sums, shared, matrix, parts, dw, g, at.m, at.n, add);
}

struct Plan {
  bool large;
  ColumnPlan columns;
  Parts parts;
  bool direct;  // one part of one portion: no second stage

  explicit Plan(const ConvProblem& p)
      : large(p.dtype != DType::kFloat64 && gemm_m(p) > 64 && p.K_per_group() > 32),
        columns(p, element_size(p.dtype), 0),
        parts{} {
    const int64_t tile_m = large ? 128 : 64, tile_n = large || p.dtype == DType::kFloat64 ? 64 : 32;
    const int64_t tiles = (gemm_m(p) + tile_m - 1) / tile_m * ((p.K_per_group() + tile_n - 1) / tile_n) * p.groups;
    parts = Parts::of(p, columns.images * p.P * p.Q, tiles);
    direct = parts.count == 1 && columns.images >= p.N;
    columns = ColumnPlan(p, element_size(p.dtype), direct ? 0 : parts.count * Parts::matrix_bytes(p));
  }
  static int64_t gemm_m(const ConvProblem& p) { return p.R * p.S * p.C_per_group(); }
};

template <class Tile>
void launch_portion(const ConvProblem& p, const ConvArgs& args, const Plan& plan, int64_t image, int64_t rows,
                    const typename Tile::T* columns) {
  using T = typename Tile::T;
  const FilterMatrix matrix(shape_of(p));
  launch(kName, p, multiply_columns<Tile>,
         matrix_launch<Tile>(matrix.gemm_m, matrix.gemm_n, p.groups, plan.parts.count, args), ColumnShape(p), matrix,
         static_cast<int>(rows), plan.parts.pixels, columns, static_cast<const T*>(args.dy) + image * p.P * p.Q * p.K,
         plan.direct ? nullptr : static_cast<Accumulator<T>*>(args.workspace), args.w, image > 0);
}

void run(const ConvProblem& p, const ConvArgs& args) {
  const Plan plan(p);
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* columns = reinterpret_cast<T*>(static_cast<char*>(args.workspace) + plan.columns.first_bytes);
    // Also without images: dw is zero then.
    for (int64_t image = 0; image == 0 || image < p.N; image += plan.columns.images) {
      const int64_t images = std::min(plan.columns.images, p.N - image), rows = images * p.P * p.Q;
      launch_gather_columns<T>(kName, p, args, image, images, columns);
      if constexpr (std::is_same_v<T, double>) {
        launch_portion<simt::Tile<T, 1, 2>>(p, args, plan, image, rows, columns);
      } else if (plan.large) {
        launch_portion<simt::Tile<T, 2, 2>>(p, args, plan, image, rows, columns);
      } else {
        launch_portion<simt::Tile<T, 1, 1>>(p, args, plan, image, rows, columns);
      }
    }
    if (!plan.direct) launch_sum_parts<T>(kName, p, args, plan.parts.count);
  });
}

size_t workspace(const ConvProblem& p) { return Plan(p).columns.bytes(); }

}  // namespace

FASTCONV_DEFINE(Conv, conv_wgrad_im2col_nhwc_sm80) = {
    .algorithm = Algorithm::kIm2col, .why_not = im2col_why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
