// y[n,p,q,c] = mean over the window of x[n,h,w,c]: vectors of channels, the window's inputs added one after another.
//
// The floor is the bytes of x and y; a window's inputs come from L1 but for its newest row. Work is cut by output rows
// of all images. A tile is kVectors vectors of channels of one output, whose sums stay in registers.

#include "core/cpu/epilogue.h"
#include "core/cpu/parallel.h"
#include "pool/pool.h"
#include "pool/window.h"

namespace fastconv {
namespace {

constexpr int kVectors = 4;

const char* why_not(const PoolProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_2d()) return "takes no depth axis";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

/// One output pixel, whose window is `rows` x `columns` of x.
struct Pixel {
  const float* x;  // channel 0 of the image
  PoolSpan rows, columns;
  int64_t x_row, C;
  float divisor;
  float* y;
  int64_t at;  // the pixel's first element of y
};

template <int kCount>
void mean(const Pixel& o, int64_t channel, int64_t n, const Epilogue& epilogue) {
  Vec sum[kCount];
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v) sum[v] = zero();
  for (int64_t h = o.rows.begin; h < o.rows.end; ++h)
    for (int64_t w = o.columns.begin; w < o.columns.end; ++w) {
      const float* x = o.x + h * o.x_row + w * o.C + channel;
#pragma GCC unroll 4
      for (int v = 0; v < kCount; ++v) sum[v] = sum[v] + (n == kLanes ? load(x + v * kLanes) : load(x + v * kLanes, n));
    }
  const Vec by = broadcast(o.divisor);
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v) finish_and_store(div(sum[v], by), epilogue, o.y, o.at, channel + v * kLanes, n);
}

void run(const PoolProblem& p, const PoolArgs& args) {
  const PoolAxis depth = depth_of(p), height = height_of(p), width = width_of(p);
  const PoolWindow front = window_of(depth, 0);
  const int64_t rows = p.N * p.P;
  const int64_t tasks = least(rows, num_threads());
  parallel_for(tasks, [&](int64_t task) {
    const Range mine = part_of(rows, tasks, task);
    for (int64_t row = mine.begin; row < mine.end; ++row) {
      const int64_t n = row / p.P;
      const PoolWindow h = window_of(height, row % p.P);
      for (int64_t q = 0; q < p.Q; ++q) {
        const PoolWindow w = window_of(width, q);
        const int64_t divisor = divisor_of(p, front, h, w);
        const Pixel o{static_cast<const float*>(args.x) + n * p.H * p.W * p.C,
                      h.inputs,
                      w.inputs,
                      p.W * p.C,
                      p.C,
                      static_cast<float>(divisor ? divisor : 1),
                      static_cast<float*>(args.out),
                      (row * p.Q + q) * p.C};
        int64_t c = 0;
        for (; c + kVectors * kLanes <= p.C; c += kVectors * kLanes) mean<kVectors>(o, c, kLanes, args.epilogue);
        for (; c < p.C; c += kLanes) mean<1>(o, c, least(kLanes, p.C - c), args.epilogue);
      }
    }
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_fprop_direct_nhwc)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
