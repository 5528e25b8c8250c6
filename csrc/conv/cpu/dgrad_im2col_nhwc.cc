// dx[n,h,w,c] = sum of the products dy[n,p,q,k] * w[k,c,r,s] that belong to it, by way of the explicit matrix; any 2-d
// problem.
//
// A row of the matrix is one pixel of dy times all filters: what this pixel adds to every input under its taps. A
// thread owns rows of dx; it makes the rows of the matrix that reach them, some pixels at a time, and adds their pieces
// in order. Pieces that belong to rows of other threads are made there again, so nothing is shared.

#include "conv/cpu/im2col.h"

namespace fastconv {
namespace {

int64_t block_of(const ConvProblem& p) { return clamp(p.Q, 1, rows_in_block(p, depth_of(p))); }

size_t workspace(const ConvProblem& p) {
  if (p.x_elements() == 0) return 0;
  return static_cast<size_t>(num_threads() * block_of(p) * depth_of(p) * element_size(p.dtype));
}

size_t packed_bytes(const ConvProblem& p) {
  size_t bytes = 0;
  with_real(p, [&](auto zero) {
    using T = decltype(zero);
    bytes = static_cast<size_t>(packed_elements<T>(p.groups, p.K_per_group(), depth_of(p))) * sizeof(T);
  });
  return bytes;
}

template <class T>
void pack_typed(const ConvProblem& p, const Filter& w, T* packed) {
  const int64_t depth = depth_of(p), panels = divide_up(depth, kColumns<T>), C = p.C_per_group();
  parallel_for(p.groups * panels, [&](int64_t task) {
    const int64_t g = task / panels;
    T* to = packed + task * p.K_per_group() * kColumns<T>;
    for (int64_t j = 0; j < kColumns<T>; ++j, ++to) {
      const int64_t column = task % panels * kColumns<T> + j, tap = column / C;
      const bool exists = column < depth;
      const T* from =
          static_cast<const T*>(w.data) + (exists ? w.offset(g, 0, column % C, 0, tap / p.S, tap % p.S) : 0);
      for (int64_t k = 0; k < p.K_per_group(); ++k) to[k * kColumns<T>] = exists ? from[k * w.stride_k] : T(0);
    }
  });
}

void pack(const ConvProblem& p, const Filter& w, void* packed) {
  with_real(p, [&](auto zero) { pack_typed(p, w, static_cast<decltype(zero)*>(packed)); });
}

/// Adds the pieces of the matrix rows of pixels (n, i, j + 0 .. count) that fall into the rows [h0, h1) of dx.
template <class T>
void add_pieces(const ConvProblem& p, const T* matrix, int64_t g, int64_t n, int64_t i, int64_t j, int64_t count,
                int64_t h0, int64_t h1, T* dx) {
  const int64_t C = p.C_per_group(), depth = depth_of(p);
  for (int64_t r = 0; r < p.R; ++r) {
    const int64_t h = i * p.stride_h - p.pad_h + r * p.dilation_h;
    if (h < h0 || h >= h1) continue;
    for (int64_t s = 0; s < p.S; ++s)
      for (int64_t pixel = 0; pixel < count; ++pixel) {
        const int64_t w = (j + pixel) * p.stride_w - p.pad_w + s * p.dilation_w;
        if (w < 0 || w >= p.W) continue;
        const T* from = matrix + pixel * depth + (r * p.S + s) * C;
        T* to = dx + ((n * p.H + h) * p.W + w) * p.C + g * C;
        for (int64_t c = 0; c < C; ++c) to[c] += from[c];
      }
  }
}

inline void finish_pixels(const ConvProblem& p, const Epilogue& e, int64_t first, int64_t count, float* dx) {
  for (int64_t pixel = first * p.C; pixel < (first + count) * p.C; pixel += p.C)
    for (int64_t c = 0; c < p.C; c += kLanes) {
      const int64_t n = clamp(p.C - c, 0, kLanes);
      finish_and_store(load(dx + pixel + c, n), e, dx, pixel, c, n);
    }
}
inline void finish_pixels(const ConvProblem& p, const Epilogue& e, int64_t first, int64_t count, double* dx) {
  for (int64_t i = first * p.C; i < (first + count) * p.C; ++i) dx[i] = finish<double>(dx[i], e, i % p.C, i);
}

/// Whether a row of the matrix, whose tap 0 lies at row `top` of dx, has pieces in the rows [h0, h1).
bool reaches_rows(const ConvProblem& p, int64_t top, int64_t h0, int64_t h1) {
  for (int64_t r = 0; r < p.R; ++r)
    if (const int64_t h = top + r * p.dilation_h; h >= h0 && h < h1) return true;
  return false;
}

/// The rows [h0, h1) of dx of one image.
template <class T>
void run_rows(const ConvProblem& p, const ConvArgs& args, int64_t n, int64_t h0, int64_t h1, T* matrix) {
  T* dx = static_cast<T*>(args.out);
  const int64_t depth = depth_of(p), block = block_of(p), K = p.K_per_group(), panels = divide_up(depth, kColumns<T>);
  for (int64_t i = (n * p.H + h0) * p.W * p.C; i < (n * p.H + h1) * p.W * p.C; ++i) dx[i] = T(0);
  for (int64_t i = 0; i < p.P; ++i) {
    if (!reaches_rows(p, i * p.stride_h - p.pad_h, h0, h1)) continue;
    for (int64_t j = 0; j < p.Q; j += block) {
      const int64_t count = p.Q - j < block ? p.Q - j : block;
      for (int64_t g = 0; g < p.groups; ++g) {
        const T* dy = static_cast<const T*>(args.dy) + ((n * p.P + i) * p.Q + j) * p.K + g * K;
        for (int64_t panel = 0; panel < panels; ++panel) {
          const T* b = static_cast<const T*>(args.packed) + (g * panels + panel) * K * kColumns<T>;
          const int64_t column = panel * kColumns<T>;
          product(count, K, dy, p.K, 1, b,
                  Target2d<T>{matrix, 0, depth, column, clamp(depth - column, 0, kColumns<T>), false, nullptr});
        }
        add_pieces(p, matrix, g, n, i, j, count, h0, h1, dx);
      }
    }
  }
  if (!args.epilogue.empty()) finish_pixels(p, args.epilogue, (n * p.H + h0) * p.W, (h1 - h0) * p.W, dx);
}

template <class T>
void run_typed(const ConvProblem& p, const ConvArgs& args) {
  const int64_t rows = p.N * p.H, tasks = rows < num_threads() ? rows : num_threads();
  parallel_for(tasks, [&](int64_t task) {
    T* matrix = static_cast<T*>(args.workspace) + task * block_of(p) * depth_of(p);
    const Range mine = part_of(rows, tasks, task);
    for (int64_t row = mine.begin; row < mine.end;) {
      const int64_t n = row / p.H, h0 = row % p.H, left = mine.end - row;
      const int64_t h1 = left < p.H - h0 ? h0 + left : p.H;
      run_rows(p, args, n, h0, h1, matrix);
      row += h1 - h0;
    }
  });
}

void run(const ConvProblem& p, const ConvArgs& args) {
  if (p.x_elements() == 0) return;
  with_real(p, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_dgrad_im2col_nhwc)) = {.algorithm = Algorithm::kIm2col,
                                                                .why_not = im2col_why_not,
                                                                .run = run,
                                                                .workspace = workspace,
                                                                .packed_bytes = packed_bytes,
                                                                .pack = pack};

}  // namespace fastconv
