// What the two CUDA reference kernels share: 64-bit places, so that they take every window and extent.
#pragma once

#include <cmath>

#include "core/cuda/launch.h"
#include "core/cuda/number.h"
#include "pool/pool.h"
#include "pool/window.h"

namespace fastconv {
namespace {

constexpr int kRefThreads = 256;

inline const char* why_not_numbers(const PoolProblem& p) {
  return is_integer(p.dtype) ? "takes no whole numbers" : nullptr;
}

/// One thread an element.
inline Launch one_thread_each(int64_t elements, const PoolArgs& args) {
  return {.grid = {static_cast<unsigned>((elements + kRefThreads - 1) / kRefThreads)},
          .block = {kRefThreads},
          .stream = args.stream};
}

/// The place of element `index` of an activation of C channels and H x W pixels a plane, counted as n, d, h, w, c.
struct Place {
  int64_t n, c, d, h, w;
};
__device__ __forceinline__ Place place_of(int64_t index, int64_t C, int64_t D, int64_t H, int64_t W) {
  Place at;
  at.c = index % C, index /= C;
  at.w = index % W, index /= W;
  at.h = index % H, index /= H;
  at.d = index % D;
  at.n = index / D;
  return at;
}

__device__ __forceinline__ int64_t offset_of(const Place& at, int64_t C, int64_t D, int64_t H, int64_t W,
                                             Layout layout) {
  if (layout == Layout::kNhwc) return (((at.n * D + at.d) * H + at.h) * W + at.w) * C + at.c;
  return (((at.n * C + at.c) * D + at.d) * H + at.h) * W + at.w;
}

}  // namespace
}  // namespace fastconv
