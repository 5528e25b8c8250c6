// dx[n,c,d,h,w] = sum of dy[n,c,z,p,q] over the outputs whose index is the input, images as they lie.
//
// A plane of dx is zeroed, then each output adds to the one input that it was: fewer additions than inputs, where a
// gradient that gathers asks every window of every input. A plane is one thread's, in the order of its outputs, so that
// the sums do not depend on the threads. The floor is the bytes of dy, dx and the indices. Work is cut by planes.

#include "core/cpu/parallel.h"
#include "pool/cpu/reduce.h"
#include "pool/window.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) {
  if (const char* reason = why_not_vectors(p)) return reason;
  if (p.mode != PoolMode::kMax) return "takes maxima only";
  if (p.x_layout != Layout::kNchw || p.y_layout != Layout::kNchw) return "takes contiguous images only";
  return nullptr;
}

int64_t plane_size(const PoolProblem& p) { return p.D * p.H * p.W; }

/// A plane of sums for each task, where dx itself is not of float32.
size_t workspace(const PoolProblem& p) {
  return p.dtype == DType::kFloat32 ? 0 : static_cast<size_t>(num_threads() * plane_size(p)) * sizeof(float);
}

/// Of places in a window, those in the image, from the window's first.
struct Offsets {
  int32_t of[256];
  explicit Offsets(const PoolProblem& p) : of{} {
    if (p.index == IndexType::kInt64) return;
    for (int64_t tap = 0; tap < p.T * p.R * p.S; ++tap) {
      const int64_t t = tap / (p.R * p.S), r = tap / p.S % p.R, s = tap % p.S;
      of[tap] = static_cast<int32_t>((t * p.dilation_d * p.H + r * p.dilation_h) * p.W + s * p.dilation_w);
    }
  }
};

/// Of a row of outputs, whose windows begin at input `first` and `stride` apart. Out of line: its few values stay in
/// registers. An index that is no input's adds nothing.
template <class T, class Index>
__attribute__((noinline)) void scatter_row(const T* dy, const Index* index, int64_t count, int64_t first,
                                           int64_t stride, const Offsets& offsets, float* sums, uint64_t inputs) {
  for (int64_t j = 0; j < count; ++j, first += stride) {
    uint64_t at;
    if constexpr (sizeof(Index) == 1) at = static_cast<uint64_t>(first + offsets.of[index[j]]);
    else at = static_cast<uint64_t>(index[j]);
    if (at < inputs) sums[at] += to_float(dy[j]);
  }
}

template <class T, class Index>
void scatter(const PoolProblem& p, const PoolArgs& args, const Offsets& offsets, int64_t plane, float* sums) {
  const int64_t inputs = plane_size(p), outputs = p.Z * p.P * p.Q;
  const T* dy = static_cast<const T*>(args.dy) + plane * outputs;
  const Index* index = static_cast<const Index*>(args.index) + plane * outputs;
  std::memset(sums, 0, static_cast<size_t>(inputs) * sizeof(float));
  int64_t o = 0;
  for (int64_t z = 0; z < p.Z; ++z)
    for (int64_t i = 0; i < p.P; ++i) {
      const int64_t row = ((z * p.stride_d - p.pad_d) * p.H + i * p.stride_h - p.pad_h) * p.W - p.pad_w;
      scatter_row(dy + o, index + o, p.Q, row, p.stride_w, offsets, sums, static_cast<uint64_t>(inputs));
      o += p.Q;
    }
}

template <class T, class Index>
void run_as(const PoolProblem& p, const PoolArgs& args) {
  const int64_t planes = p.N * p.C, inputs = plane_size(p), tasks = least(planes, num_threads());
  const Offsets offsets(p);
  parallel_for(tasks, [&](int64_t task) {
    const Range range = part_of(planes, tasks, task);
    for (int64_t plane = range.begin; plane < range.end; ++plane) {
      T* dx = static_cast<T*>(args.out) + plane * inputs;
      if constexpr (std::is_same_v<T, float>) {
        scatter<T, Index>(p, args, offsets, plane, dx);
      } else {
        float* sums = static_cast<float*>(args.workspace) + task * inputs;
        scatter<T, Index>(p, args, offsets, plane, sums);
        for (int64_t i = 0; i < inputs; i += kLanes) {
          const int64_t n = least(kLanes, inputs - i);
          store_lanes(dx + i, load_lanes(sums + i, n), n);
        }
      }
    }
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_vector_type(p.dtype, [&](auto element) {
    if (p.index == IndexType::kUInt8) run_as<decltype(element), uint8_t>(p, args);
    else run_as<decltype(element), int64_t>(p, args);
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_dgrad_scatter_nchw)) = {
    .algorithm = Algorithm::kScatter, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
