// How the kernels of igemm_wgrad_sm90a.h cut their work, decided on the host.
//
// dw is a matrix of K rows and, in boxes of 64 channels of one tap, C / 64 R S boxes of columns, taps fastest. A block
// owns a tile of it and a split of the pixels. Small tiles and many splits fill the multiprocessors and cost partial
// sums; the plan takes the cheapest of a few by an estimate in clocks.
#pragma once

#include "conv/cuda/igemm_sm90a_plan.h"
#include "core/cuda/gpu.h"

namespace fastconv {
namespace {

/// Boxes of a warpgroup: 192 columns, three taps of a 3 x 3 filter.
constexpr int kHopperWgradBoxes = 3;

/// A tile: each of row_groups x column_groups warpgroups owns row_blocks x 64 filters and its boxes.
struct HopperWgradKind {
  int row_groups, row_blocks, column_groups;
  int depth;   // pixels of a step
  int clocks;  // for 64 pixels: the tensor cores' time, or that of 38 bytes a clock from L2
  constexpr int filters() const { return 64 * row_groups * row_blocks; }
  constexpr int boxes() const { return kHopperWgradBoxes * column_groups; }
};

constexpr HopperWgradKind kHopperWgradKinds[] = {{1, 1, 3, 32, 2156}, {2, 1, 1, 64, 1078}, {2, 2, 1, 64, 1536}};

inline int64_t hopper_wgrad_boxes(const ConvProblem& p) { return (p.C + kHopperDepth - 1) / kHopperDepth * p.R * p.S; }

/// One plan for the workspace and for the launch.
struct HopperWgradPlan {
  int kind = 0, splits = 0;  // no splits: no pixels
  int split_pixels = 64;     // but of the last

  HopperWgradPlan(const ConvProblem& p, int processors) {
    constexpr int64_t kPixels = 64, kMostWaves = 3;
    constexpr int64_t kMostPixels = 1 << 16;             // of one chain of float sums
    constexpr int64_t kMostBytes = int64_t{64} << 20;    // of partial sums
    constexpr int64_t kBeginClocks = 1500, kBytes = 18;  // memory's, a clock and multiprocessor
    const int64_t pixels = p.N * p.P * p.Q, bytes = p.w_elements() * 4;
    const int64_t steps = (pixels + kPixels - 1) / kPixels;
    if (steps == 0 || bytes == 0) return;
    const int64_t most = std::clamp<int64_t>(kMostBytes / bytes, 1, steps);
    const int64_t least = std::min((pixels + kMostPixels - 1) / kMostPixels, most);
    int64_t cheapest = 0;
    for (const HopperWgradKind& of : kHopperWgradKinds) {
      const int64_t tiles =
          ((p.K + of.filters() - 1) / of.filters()) * ((hopper_wgrad_boxes(p) + of.boxes() - 1) / of.boxes());
      for (int64_t waves = 1; waves <= kMostWaves; ++waves) {
        const int64_t want = std::clamp(waves * processors / tiles, least, most);
        const int64_t each = (steps + want - 1) / want, count = (steps + each - 1) / each;
        const int64_t rounds = (tiles * count + processors - 1) / processors;
        const int64_t clocks = rounds * (kBeginClocks + each * of.clocks) + 2 * count * bytes / (kBytes * processors);
        if (splits && clocks >= cheapest) continue;
        cheapest = clocks;
        kind = static_cast<int>(&of - kHopperWgradKinds);
        splits = static_cast<int>(count), split_pixels = static_cast<int>(each * kPixels);
      }
    }
  }
};

inline size_t igemm_hopper_wgrad_bytes(const ConvProblem& p) {
  return static_cast<size_t>(HopperWgradPlan(p, multiprocessors()).splits * p.w_elements()) * sizeof(float);
}

/// What the loads and stores need of the problem.
struct HopperWgradShape {
  int pixels, K, C, R, S;
  int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int row, boxes, split_pixels;  // row: of dw, R S C
  FastDivmod by_tiles_n, by_taps, by_s, by_q, by_p;
};

inline HopperWgradShape hopper_wgrad_shape(const ConvProblem& p, const HopperWgradPlan& plan) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  const auto by = [](int64_t value) { return FastDivmod(static_cast<int>(std::max<int64_t>(value, 1))); };
  const int boxes = i(hopper_wgrad_boxes(p)), across = kHopperWgradKinds[plan.kind].boxes();
  return {.pixels = i(p.N * p.P * p.Q),
          .K = i(p.K),
          .C = i(p.C),
          .R = i(p.R),
          .S = i(p.S),
          .stride_h = i(p.stride_h),
          .stride_w = i(p.stride_w),
          .pad_h = i(p.pad_h),
          .pad_w = i(p.pad_w),
          .dilation_h = i(p.dilation_h),
          .dilation_w = i(p.dilation_w),
          .row = i(p.R * p.S * p.C),
          .boxes = boxes,
          .split_pixels = plan.split_pixels,
          .by_tiles_n = by((boxes + across - 1) / across),
          .by_taps = by(p.R * p.S),
          .by_s = by(p.S),
          .by_q = by(p.Q),
          .by_p = by(p.P)};
}

/// dy as a matrix, pixels by filters; pixels after the last are zeros.
inline TensorMap map_of_output_pixels(const ConvProblem& p, const void* dy, int pixels) {
  const int64_t size = element_size(p.dtype);
  TiledTensor tensor;
  tensor.dtype = p.dtype, tensor.data = dy, tensor.rank = 2;
  tensor.extent[0] = p.K, tensor.extent[1] = p.N * p.P * p.Q;
  tensor.stride[0] = size, tensor.stride[1] = p.K * size;
  tensor.box[0] = 64, tensor.box[1] = pixels;
  tensor.swizzle = Swizzle::k128;
  return tensor_map(tensor);
}

}  // namespace
}  // namespace fastconv
