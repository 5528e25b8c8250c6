// What the three CUDA reference kernels share.
#pragma once

#include "conv/cuda/shape.h"
#include "core/cuda/epilogue.h"
#include "core/cuda/launch.h"

namespace fastconv {
namespace {

constexpr int kThreads = 256;

/// One thread an element.
inline Launch one_thread_each(int64_t elements, const ConvArgs& args) {
  return {.grid = {static_cast<unsigned>((elements + kThreads - 1) / kThreads)},
          .block = {kThreads},
          .stream = args.stream};
}

/// The place of element `index` of an activation of C channels and H x W pixels a plane, counted as n, d, h, w, c.
struct Place {
  int n, c, d, h, w;
};
__device__ __forceinline__ Place place_of(int64_t index, int C, int D, int H, int W) {
  Place at;
  at.c = static_cast<int>(index % C), index /= C;
  at.w = static_cast<int>(index % W), index /= W;
  at.h = static_cast<int>(index % H), index /= H;
  at.d = static_cast<int>(index % D);
  at.n = static_cast<int>(index / D);
  return at;
}

}  // namespace
}  // namespace fastconv
