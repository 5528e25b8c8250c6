// y[n,p,q,k] = sum over r,s,c of x[n,p',q',c] * w[k,c,r,s], with the matrix of x made explicit; any 2-d problem.
//
// A thread takes blocks of output pixels: it fills their rows of the matrix, group by group, and multiplies them with
// every packed panel of filters.

#include "conv/cpu/im2col.h"

namespace fastconv {
namespace {

int64_t block_of(const ConvProblem& p) {
  const int64_t pixels = p.N * p.P * p.Q;
  return clamp(divide_up(pixels, num_threads()), 1, rows_in_block(p, depth_of(p)));
}

size_t workspace(const ConvProblem& p) {
  if (p.y_elements() == 0) return 0;
  return static_cast<size_t>(num_threads() * block_of(p) * depth_of(p) * element_size(p.dtype));
}

size_t packed_bytes(const ConvProblem& p) {
  size_t bytes = 0;
  with_real(p, [&](auto zero) {
    using T = decltype(zero);
    bytes = static_cast<size_t>(packed_elements<T>(p.groups, depth_of(p), p.K_per_group())) * sizeof(T);
  });
  return bytes;
}

template <class T>
void pack_typed(const ConvProblem& p, const Filter& w, T* packed) {
  const int64_t panels = divide_up(p.K_per_group(), kColumns<T>);
  parallel_for(p.groups * panels, [&](int64_t task) {
    const int64_t g = task / panels, k0 = task % panels * kColumns<T>;
    T* to = packed + task * depth_of(p) * kColumns<T>;
    for (int64_t r = 0; r < p.R; ++r)
      for (int64_t s = 0; s < p.S; ++s)
        for (int64_t c = 0; c < p.C_per_group(); ++c, to += kColumns<T>)
          for (int64_t j = 0; j < kColumns<T>; ++j)
            to[j] = k0 + j < p.K_per_group() ? static_cast<const T*>(w.data)[w.offset(g, k0 + j, c, 0, r, s)] : T(0);
  });
}

void pack(const ConvProblem& p, const Filter& w, void* packed) {
  with_real(p, [&](auto zero) { pack_typed(p, w, static_cast<decltype(zero)*>(packed)); });
}

template <class T>
void run_typed(const ConvProblem& p, const ConvArgs& args) {
  const int64_t depth = depth_of(p), block = block_of(p), pixels = p.N * p.P * p.Q, K = p.K_per_group();
  const int64_t panels = divide_up(K, kColumns<T>), blocks = divide_up(pixels, block);
  const int64_t tasks = blocks < num_threads() ? blocks : num_threads();
  parallel_for(tasks, [&](int64_t task) {
    T* matrix = static_cast<T*>(args.workspace) + task * block * depth;
    const Range mine = part_of(blocks, tasks, task);
    for (int64_t index = mine.begin; index < mine.end; ++index) {
      const int64_t first = index * block, count = pixels - first < block ? pixels - first : block;
      for (int64_t g = 0; g < p.groups; ++g) {
        fill_rows(p, static_cast<const T*>(args.x), g, first, count, 0, depth, matrix);
        for (int64_t panel = 0; panel < panels; ++panel) {
          const T* b = static_cast<const T*>(args.packed) + (g * panels + panel) * depth * kColumns<T>;
          const int64_t k = panel * kColumns<T>;
          product(count, depth, matrix, depth, 1, b,
                  Target2d<T>{static_cast<T*>(args.out), first * p.K, p.K, g * K + k, clamp(K - k, 0, kColumns<T>),
                              false, &args.epilogue});
        }
      }
    }
  });
}

void run(const ConvProblem& p, const ConvArgs& args) {
  if (p.y_elements() == 0) return;
  with_real(p, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_fprop_im2col_nhwc)) = {.algorithm = Algorithm::kIm2col,
                                                                .why_not = im2col_why_not,
                                                                .run = run,
                                                                .workspace = workspace,
                                                                .packed_bytes = packed_bytes,
                                                                .pack = pack};

}  // namespace fastconv
