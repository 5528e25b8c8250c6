// dw[k,c,r,s] = sum over n,p,q of x[n,p',q',c] * dy[n,p,q,k], with the matrix of x made explicit; any 2-d problem.
//
// dw is cut into blocks of some columns of the matrix by some filters. A thread takes blocks and sums each over all
// pixels, a block of pixels at a time, in a working block that is added to in order and written once.

#include "conv/cpu/im2col.h"

namespace fastconv {
namespace {

constexpr int64_t kFilters = 256;  // of a block of dw
constexpr int64_t kWeights = 128;  // columns of the matrix of a block of dw
constexpr int64_t kPixels = 256;   // that are summed in one go

/// Elements a thread works in: columns of the matrix, one panel of dy, the block of dw.
constexpr int64_t kMatrix = kPixels * kWeights, kWork = kWeights * kFilters;
template <class T>
constexpr int64_t kThreadElements = kMatrix + kPixels * kColumns<T> + kWork;

size_t workspace(const ConvProblem& p) {
  size_t bytes = 0;
  with_real(p, [&](auto zero) {
    using T = decltype(zero);
    bytes = static_cast<size_t>(num_threads() * kThreadElements<T>) * sizeof(T);
  });
  return bytes;
}

/// The filters [k, k + n) of dy for `count` pixels from `pixel` on, filled up with zeros to a panel.
template <class T>
void pack_dy(const ConvProblem& p, const T* dy, int64_t pixel, int64_t count, int64_t k, int64_t n, T* to) {
  for (int64_t i = 0; i < count; ++i, to += kColumns<T>) {
    const T* from = dy + (pixel + i) * p.K + k;
    for (int64_t j = 0; j < n; ++j) to[j] = from[j];
    for (int64_t j = n; j < kColumns<T>; ++j) to[j] = T(0);
  }
}

/// Weights [m0, m1) of filters [k0, k1) of group g.
template <class T>
void run_block(const ConvProblem& p, const ConvArgs& args, int64_t g, int64_t m0, int64_t m1, int64_t k0, int64_t k1,
               T* memory) {
  T *matrix = memory, *dy = memory + kMatrix, *work = dy + kPixels * kColumns<T>;
  const int64_t weights = m1 - m0, pixels = p.N * p.P * p.Q, filters = k1 - k0;
  for (int64_t i = 0; i < weights * filters; ++i) work[i] = T(0);
  for (int64_t first = 0; first < pixels; first += kPixels) {
    const int64_t count = clamp(pixels - first, 0, kPixels);
    fill_rows(p, static_cast<const T*>(args.x), g, first, count, m0, m1, matrix);
    for (int64_t k = 0; k < filters; k += kColumns<T>) {
      const int64_t n = clamp(filters - k, 0, kColumns<T>);
      pack_dy(p, static_cast<const T*>(args.dy), first, count, g * p.K_per_group() + k0 + k, n, dy);
      product(weights, count, matrix, 1, weights, dy, Target2d<T>{work, 0, filters, k, n, true, nullptr});
    }
  }
  for (int64_t m = m0; m < m1; ++m) {
    const int64_t tap = m / p.C_per_group(), c = m % p.C_per_group();
    T* to = static_cast<T*>(args.w.data) + args.w.offset(g, k0, c, 0, tap / p.S, tap % p.S);
    for (int64_t k = 0; k < filters; ++k) to[k * args.w.stride_k] = work[(m - m0) * filters + k];
  }
}

template <class T>
void run_typed(const ConvProblem& p, const ConvArgs& args) {
  const int64_t depth = depth_of(p), m_blocks = divide_up(depth, kWeights);
  const int64_t k_blocks = divide_up(p.K_per_group(), kFilters), blocks = p.groups * m_blocks * k_blocks;
  const int64_t tasks = blocks < num_threads() ? blocks : num_threads();
  parallel_for(tasks, [&](int64_t task) {
    const Range mine = part_of(blocks, tasks, task);
    for (int64_t block = mine.begin; block < mine.end; ++block) {
      const Range m = part_of(depth, m_blocks, block / k_blocks % m_blocks);
      const Range k = part_of(p.K_per_group(), k_blocks, block % k_blocks);
      run_block(p, args, block / (k_blocks * m_blocks), m.begin, m.end, k.begin, k.end,
                static_cast<T*>(args.workspace) + task * kThreadElements<T>);
    }
  });
}

void run(const ConvProblem& p, const ConvArgs& args) {
  with_real(p, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_wgrad_im2col_nhwc)) = {
    .algorithm = Algorithm::kIm2col, .why_not = im2col_why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
