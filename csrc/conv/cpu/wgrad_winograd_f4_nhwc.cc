// dw[k,c,r,s] = sum over n,p,q of x[n,p',q',c] * dy[n,p,q,k] for 3x3 filters of unit stride, by F(4x4, 3x3) turned
// around.
//
// Where y = At [(G g Gt) * (Bt d B)] A, the gradient of g is Gt [sum over tiles of (Bt d B) * (A dy At)] G: 36 matrix
// products over the tiles in place of 144 over the pixels (docs/winograd.md). Three steps a chunk of tiles: V[position]
// [tile][c] from x and U[position][panel][tile][k] from dy; M[position][c][k] = Vt U, one block of channels by one
// panel of k a task; Gt M G, added to the working dw. After the last chunk a task writes its part of dw, with plain
// sums (wgrad_plain.h) in place of vectors that are not all finite: transformed values leave the range of float32
// where plain ones do not. Each sum has one owner and one order, so results do not depend on timing.

#include "conv/conv.h"
#include "conv/cpu/wgrad_plain.h"
#include "conv/cpu/winograd_transforms.h"
#include "conv/cpu/write_dw.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"

namespace fastconv {
namespace {

using T = Transform<4>;
constexpr int64_t kM = 4, kPositions = T::kPositions;
constexpr int64_t kTilesAtOnce = 256;                      // enough that Gt M G is little beside the products
constexpr int64_t kTransformed = (int64_t{20} << 20) / 4;  // floats of V and U: they stay in L3
constexpr int64_t kChannels = 64;                          // rows of M: 36 blocks of 64 x kPanel stay in L2

/// U = A dy At for one tile whose vectors are dy(p, q), to u[i * position].
template <class Load>
FASTCONV_INLINE void transform_dy(Load&& dy, float* u, int64_t position) {
  const Vec near = broadcast(T::kNear), near2 = broadcast(T::kNear2), far = broadcast(T::kFar),
            far2 = broadcast(T::kFar2);
  const auto spread = [&](Vec y0, Vec y1, Vec y2, Vec y3, Vec(&out)[6]) {
    const Vec even1 = fma(near2, y2, y0), odd1 = fma(near2, y3, y1) * near;
    const Vec even2 = fma(far2, y2, y0), odd2 = fma(far2, y3, y1) * far;
    out[0] = y0, out[5] = y3;
    out[1] = even1 + odd1, out[2] = even1 - odd1;
    out[3] = even2 + odd2, out[4] = even2 - odd2;
  };
  Vec columns[4][6];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) spread(dy(0, q), dy(1, q), dy(2, q), dy(3, q), columns[q]);
#pragma GCC unroll 6
  for (int r = 0; r < 6; ++r) {
    Vec row[6];
    spread(columns[0][r], columns[1][r], columns[2][r], columns[3][r], row);
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) store(u + (6 * r + s) * position, row[s]);
  }
}

/// Calls `emit(r, s, value)` for each of the 3 x 3 weights Gt M G, M[i] = m[i * position].
template <class Emit>
FASTCONV_INLINE void gather_weights(const float* m, int64_t position, Emit&& emit) {
  constexpr float kNear2 = T::kNear2, kFar2 = T::kFar2, kAtNear = T::kAtNear, kAtFar = T::kAtFar;
  const auto gather = [&](const Vec(&t)[6], Vec(&g)[3]) {
    const Vec even1 = broadcast(kAtNear) * (t[1] + t[2]), odd1 = broadcast(kAtNear * T::kNear) * (t[1] - t[2]);
    const Vec even2 = broadcast(kAtFar) * (t[3] + t[4]);
    g[0] = fma(broadcast(1 / (kNear2 * kFar2)), t[0], even1 + even2);
    g[1] = fma(broadcast(kAtFar * T::kFar), t[3] - t[4], odd1);
    g[2] = fma(broadcast(kNear2), even1, fma(broadcast(kFar2), even2, t[5]));
  };
  Vec columns[6][3];
#pragma GCC unroll 6
  for (int s = 0; s < 6; ++s) {
    Vec t[6];
#pragma GCC unroll 6
    for (int r = 0; r < 6; ++r) t[r] = load(m + (6 * r + s) * position);
    gather(t, columns[s]);
  }
#pragma GCC unroll 3
  for (int r = 0; r < 3; ++r) {
    Vec t[6], g[3];
#pragma GCC unroll 6
    for (int s = 0; s < 6; ++s) t[s] = columns[s][r];
    gather(t, g);
#pragma GCC unroll 3
    for (int s = 0; s < 3; ++s) emit(r, s, g[s]);
  }
}

/// Counts, and strides in floats, that follow from the problem and the number of threads.
struct Cut {
  int64_t rows, columns, tiles, chunk;  // the grid of tiles of an image; of the batch; at once
  int64_t panels, c_blocks, channels;   // tasks of the products
  int64_t v_row, v_position, u_panel, u_position;
  int64_t m_floats, work_floats;  // of one thread; of one task

  explicit Cut(const ConvProblem& p) {
    rows = divide_up(p.P, kM), columns = divide_up(p.Q, kM);
    tiles = p.N * rows * columns;
    panels = divide_up(p.K, kPanel);
    v_row = round_up(p.C, kLanes) + (p.C % 256 ? 0 : kLanes);  // rows apart by more than a multiple of the cache's ways
    const int64_t fitting = most(1, kTransformed / (kPositions * (v_row + panels * kPanel)));
    chunk = divide_up(tiles, most(1, divide_up(tiles, least(fitting, kTilesAtOnce))));
    v_position = chunk * v_row + kLanes;
    u_panel = chunk * kPanel;
    u_position = panels * u_panel + kLanes;
    c_blocks = least(p.C, most(divide_up(p.C, kChannels), divide_up(num_threads(), panels)));
    channels = divide_up(p.C, c_blocks);
    c_blocks = divide_up(p.C, channels);
    m_floats = kPositions * channels * kPanel;
    work_floats = 9 * channels * kPanel;
  }
  size_t bytes() const {
    const int64_t transformed = kPositions * (v_position + u_position);
    return static_cast<size_t>(transformed + num_threads() * m_floats + c_blocks * panels * work_floats) *
           sizeof(float);
  }
};

const char* why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels last on both sides";
  if (!p.is_2d()) return "takes 2-d problems only";
  if (p.R != 3 || p.S != 3) return "takes 3x3 filters only";
  if (!p.has_unit_stride()) return "takes stride 1 only";
  if (p.dilation_h != 1 || p.dilation_w != 1) return "takes dilation 1 only";
  if (p.groups != 1) return "takes one group only";
  return nullptr;
}

size_t workspace(const ConvProblem& p) { return Cut(p).bytes(); }

struct Call {
  const ConvProblem& p;
  const ConvArgs& args;
  const Cut plan;
  float *v, *u, *m, *work;

  Call(const ConvProblem& problem, const ConvArgs& arguments) : p(problem), args(arguments), plan(problem) {
    v = static_cast<float*>(args.workspace);
    u = v + kPositions * plan.v_position;
    m = u + kPositions * plan.u_position;
    work = m + num_threads() * plan.m_floats;
  }

  /// Calls `transform(load, lanes)` for each vector of the channels of a tile's kSize x kSize pixels from (h, w) on,
  /// zero outside the image of H x W; `load(r, s)` reads one.
  template <int kSize, class Body>
  FASTCONV_INLINE static void each_vector(const float* image, int64_t H, int64_t W, int64_t C, int64_t h, int64_t w,
                                          Body&& body) {
    const bool inside = h >= 0 && w >= 0 && h + kSize <= H && w + kSize <= W;
    const float* origin = image + (h * W + w) * C;
    for (int64_t c = 0; c < C; c += kLanes) {
      if (inside && c + kLanes <= C) {
        body(c, [&](int r, int s) { return load(origin + (r * W + s) * C + c); });
        continue;
      }
      const int64_t lanes = least(kLanes, C - c);
      body(c, [&](int r, int s) {
        const bool there = h + r >= 0 && h + r < H && w + s >= 0 && w + s < W;
        return there ? load(origin + (r * W + s) * C + c, lanes) : zero();
      });
    }
  }

  void transform_tile(int64_t tile, int64_t place, bool of_x) const {
    const int64_t j = tile % plan.columns, i = tile / plan.columns % plan.rows, n = tile / (plan.columns * plan.rows);
    if (of_x) {
      const float* image = static_cast<const float*>(args.x) + n * p.H * p.W * p.C;
      each_vector<6>(image, p.H, p.W, p.C, i * kM - p.pad_h, j * kM - p.pad_w,
                     [&](int64_t c, auto&& d) { T::input(d, v + place * plan.v_row + c, plan.v_position); });
    } else {
      const float* image = static_cast<const float*>(args.dy) + n * p.P * p.Q * p.K;
      each_vector<4>(image, p.P, p.Q, p.K, i * kM, j * kM, [&](int64_t k, auto&& d) {
        transform_dy(d, u + k / kPanel * plan.u_panel + place * kPanel + k % kPanel, plan.u_position);
      });
    }
  }

  /// M of `channels` channels from c on and one panel: sums over `count` tiles.
  void multiply(int64_t c, int64_t channels, int64_t panel, int64_t count, float* to) const {
    const Tiling tiling = tile_rows(channels);
    for (int64_t position = 0; position < kPositions; ++position, to += channels * kPanel) {
      const float* b = u + position * plan.u_position + panel * plan.u_panel;
      for (int64_t row = 0; row < channels; row += tiling.height) {
        // While this position is multiplied, the next one's panel comes to L2, a share under each tile.
        const int64_t following = position + 1 < kPositions ? plan.u_position : 0;
        Ahead ahead{b + following + row / tiling.height * (count / 4) * kPanel, kPanel};
        with_rows(least(tiling.height, channels - row), [&](auto rows) {
          constexpr int MR = decltype(rows)::value;
          Vec acc[MR][kTileVectors];
          clear(acc);
          accumulate_transposed<MR, kTileVectors>(acc, v + position * plan.v_position + c + row, plan.v_row, b, count,
                                                  ahead);
#pragma GCC unroll 16
          for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
            for (int k = 0; k < kTileVectors; ++k) store(to + (row + i) * kPanel + k * kLanes, acc[i][k]);
        });
      }
    }
  }

  void products(int64_t task, int64_t thread, int64_t count, bool first, bool last) const {
    const int64_t block = task / plan.panels, panel = task % plan.panels, c = block * plan.channels;
    const int64_t channels = least(plan.channels, p.C - c);
    float* products = m + thread * plan.m_floats;
    float* sums = work + task * plan.work_floats;  // [tap][channel][kPanel]
    multiply(c, channels, panel, count, products);
    for (int64_t at = 0; at < channels * kPanel; at += kLanes) {
      Vec total = zero();
      gather_weights(products + at, channels * kPanel, [&](int r, int s, Vec value) {
        float* to = sums + (r * 3 + s) * channels * kPanel + at;
        value = first ? value : load(to) + value;
        store(to, value);
        total = total + value;
      });
      const int64_t k = panel * kPanel + at % kPanel;
      if (last && k < p.K && !all_finite(total))
        PlainGradient{p, static_cast<const float*>(args.x), static_cast<const float*>(args.dy)}.run(
            c + at / kPanel, k, least(kLanes, p.K - k), sums + at, channels * kPanel);
    }
    if (last) write_dw(p, args.w, 0, panel * kPanel, least(kPanel, p.K - panel * kPanel), c, channels, sums, 1, 0);
  }

  void run() const {
    const int64_t threads = num_threads(), tasks = plan.c_blocks * plan.panels;
    for (int64_t tile = 0; tile < plan.tiles; tile += plan.chunk) {
      const int64_t count = least(plan.chunk, plan.tiles - tile);
      parallel_for(threads, [&](int64_t thread) {
        const Range range = part_of(2 * count, threads, thread);
        for (int64_t one = range.begin; one < range.end; ++one) transform_tile(tile + one / 2, one / 2, one % 2 == 0);
      });
      parallel_for(threads, [&](int64_t thread) {
        const Range range = part_of(tasks, threads, thread);
        for (int64_t task = range.begin; task < range.end; ++task)
          products(task, thread, count, tile == 0, tile + count == plan.tiles);
      });
    }
  }
};

void run(const ConvProblem& p, const ConvArgs& args) {
  if (p.y_elements() == 0) zero_dw(p, args.w);
  else Call(p, args).run();
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_wgrad_winograd_f4_nhwc)) = {
    .algorithm = Algorithm::kWinogradF4, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
