// dx[n,c,h,w] = sum over r,s of columns[(n, p, q)][r, s, c] where p * stride - pad + r * dilation = h, and columns = dy
// * w: a product, then a gather. Columns are kept in the accumulator's type, so that each sum is rounded once. See
// im2col.h.

#include "conv/cuda/im2col.h"

namespace fastconv {
namespace {

constexpr const char* kName = "conv_dgrad_im2col_nhwc_sm80";

/// The columns of `rows` pixels of dy. Grid: matrix_launch.
template <class Tile>
__global__ void __launch_bounds__(simt::kThreads, Tile::kBlocksPerSm)
    make_columns(ColumnShape p, int rows, const typename Tile::T* __restrict__ dy,
                 const typename Tile::T* __restrict__ weight, typename Tile::A* columns) {
  using T = typename Tile::T;
  auto& shared = shared_memory<typename Tile::Shared>();
  const int g = static_cast<int>(blockIdx.y), gemm_k = p.p.K_per_group;
  const TilePlace<Tile> at(p.pitch);
  simt::Sums<Tile> sums;
  simt::multiply<Tile, simt::Along::kDepth, simt::Along::kRows>(
      MatrixSource<T, simt::Along::kDepth>(dy + int64_t{1} * at.m * p.p.K + g * gemm_k, p.p.K, rows - at.m, gemm_k,
                                           gemm_k % 4 == 0),
      MatrixSource<T, simt::Along::kRows>(weight + int64_t{1} * g * gemm_k * p.pitch + at.n, p.pitch, p.pitch - at.n,
                                          gemm_k, true),
      (gemm_k + simt::kStep - 1) / simt::kStep, shared, sums);
  simt::for_each_quad<Tile>(sums, shared, [&](int row, int column, const auto& quad) {
    if (at.m + row >= rows || at.n + column >= p.pitch) return;
    simt::store_quad(columns + ((int64_t{1} * at.m + row) * p.p.groups + g) * p.pitch + at.n + column, quad);
  });
}

/// dx as its gather sees it.
struct GradientShape {
  ColumnShape columns;
  FastDivmod channels, w, h, stride_h, stride_w;

  explicit GradientShape(const ConvProblem& problem)
      : columns(problem),
        channels(columns.p.C),
        w(columns.p.W > 0 ? columns.p.W : 1),
        h(columns.p.H > 0 ? columns.p.H : 1),
        stride_h(columns.p.stride_h),
        stride_w(columns.p.stride_w) {}
};

/// The output whose first tap lies `reach` inputs behind that of output 0; a negative number where there is none.
__device__ __forceinline__ int output_at(int reach, const FastDivmod& stride, int outputs) {
  if (reach < 0) return -1;
  int at;
  return stride.divmod(reach, &at) == 0 && at < outputs ? at : -1;
}

/// dx of the images whose columns these are, which begins at element `first` of the residual. A thread kLanes channels
/// of a group.
template <class T, int kLanes>
__global__ void __launch_bounds__(kColumnThreads)
    gather_gradient(GradientShape shape, int64_t threads, const Accumulator<T>* __restrict__ columns, T* dx,
                    int64_t first, Epilogue epilogue) {
  const ColumnShape& m = shape.columns;
  const int64_t index = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (index >= threads) return;
  int pixel, line, n, g;
  const int channel = shape.channels.divmod(static_cast<int>(index * kLanes), &pixel), c = m.c.divmod(channel, &g);
  const int w = shape.w.divmod(pixel, &line), h = shape.h.divmod(line, &n);
  Pack<Accumulator<T>, kLanes> sum = {};
  for (int r = 0; r < m.p.R; ++r) {
    const int p = output_at(h + m.p.pad_h - r * m.p.dilation_h, shape.stride_h, m.p.P);
    if (p < 0) continue;
    for (int s = 0; s < m.p.S; ++s) {
      const int q = output_at(w + m.p.pad_w - s * m.p.dilation_w, shape.stride_w, m.p.Q);
      if (q < 0) continue;
      const int64_t row = (int64_t{1} * n * m.p.P + p) * m.p.Q + q;
      const auto* from = columns + (row * m.p.groups + g) * m.pitch + (r * m.p.S + s) * m.p.C_per_group + c;
      if constexpr (kLanes == 4) {
        const auto quad = simt::load_quad(from);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum.at[i] += quad.at[i];
      } else {
        sum.at[0] += *from;
      }
    }
  }
  const int64_t to = index * kLanes;
  Pack<T, kLanes> result;
#pragma unroll
  for (int i = 0; i < kLanes; ++i)
    result.at[i] = narrow<T>(finish<T>(sum.at[i], epilogue, channel + i, first + to + i));
  if constexpr (kLanes == 4) simt::store_quad(dx + to, result);
  else dx[to] = result.at[0];
}

ColumnPlan plan_of(const ConvProblem& p) {
  return ColumnPlan(p, p.dtype == DType::kFloat64 ? 8 : 4, ColumnPlan::weight_bytes(p));
}

template <class T, int kLanes>
void launch_gather(const ConvProblem& p, const ConvArgs& args, int64_t image, int64_t images,
                   const Accumulator<T>* columns) {
  const int64_t threads = images * p.H * p.W * p.C / kLanes, first = image * p.H * p.W * p.C;
  launch(kName, p, gather_gradient<T, kLanes>, column_launch(threads, args), GradientShape(p), threads, columns,
         static_cast<T*>(args.out) + first, first, args.epilogue);
}

void run(const ConvProblem& p, const ConvArgs& args) {
  const ColumnPlan plan = plan_of(p);
  with_element(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const T* weight = static_cast<const T*>(args.workspace);
    A* columns = reinterpret_cast<A*>(static_cast<char*>(args.workspace) + plan.first_bytes);
    const ColumnShape m(p);
    launch_pack_weight<T>(kName, p, args);
    for (int64_t image = 0; image < p.N; image += plan.images) {
      const int64_t images = std::min(plan.images, p.N - image), rows = images * p.P * p.Q;
      with_matrix_tile<T>(rows, m.pitch, p.groups, [&](auto* null) {
        using Tile = std::remove_pointer_t<decltype(null)>;
        launch(kName, p, make_columns<Tile>, matrix_launch<Tile>(rows, m.pitch, p.groups, 1, args), m,
               static_cast<int>(rows), static_cast<const T*>(args.dy) + image * p.P * p.Q * p.K, weight, columns);
      });
      if (m.vector_c) launch_gather<T, 4>(p, args, image, images, columns);
      else launch_gather<T, 1>(p, args, image, images, columns);
    }
  });
}

size_t workspace(const ConvProblem& p) { return plan_of(p).bytes(); }

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_im2col_nhwc_sm80) = {
    .algorithm = Algorithm::kIm2col, .why_not = im2col_why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
