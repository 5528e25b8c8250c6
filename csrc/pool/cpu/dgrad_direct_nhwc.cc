// dx[n,h,w,c] = sum of dy[n,p,q,c] / divisor over the outputs whose windows look at the input: each input gathers, so
// that no two threads write one place.
//
// The floor is the bytes of dy and dx. Work is cut by input rows of all images; vectors run over channels.

#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"
#include "pool/pool.h"
#include "pool/window.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_2d()) return "takes no depth axis";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

void run(const PoolProblem& p, const PoolArgs& args) {
  const float* dy = static_cast<const float*>(args.dy);
  float* dx = static_cast<float*>(args.out);
  const PoolAxis depth = depth_of(p), height = height_of(p), width = width_of(p);
  const PoolWindow front = window_of(depth, 0);
  const int64_t rows = p.N * p.H;
  const int64_t tasks = least(rows, num_threads());
  parallel_for(tasks, [&](int64_t task) {
    const Range mine = part_of(rows, tasks, task);
    for (int64_t row = mine.begin; row < mine.end; ++row) {
      const int64_t n = row / p.H;
      const PoolSpan is = outputs_of(height, row % p.H);
      for (int64_t w = 0; w < p.W; ++w) {
        const PoolSpan js = outputs_of(width, w);
        float* out = dx + (row * p.W + w) * p.C;
        for (int64_t c = 0; c < p.C; c += kLanes) {
          const int64_t lanes = least(kLanes, p.C - c);
          Vec sum = zero();
          for (int64_t i = is.begin; i < is.end; ++i) {
            const PoolWindow h = window_of(height, i);
            for (int64_t j = js.begin; j < js.end; ++j) {
              const auto divisor = static_cast<float>(divisor_of(p, front, h, window_of(width, j)));
              const float* from = dy + ((n * p.P + i) * p.Q + j) * p.C + c;
              sum = sum + div(lanes == kLanes ? load(from) : load(from, lanes), broadcast(divisor));
            }
          }
          if (lanes == kLanes) store(out + c, sum);
          else store(out + c, sum, lanes);
        }
      }
    }
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_dgrad_direct_nhwc)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
