// What the kernels of halo_sm90a.h take, how the work is cut into tiles and shared memory, and the tensor maps that the
// loads go by, made on the host.
//
// Both maps deal channels out in planes of 8, 16 bytes an element: a box of pixels lies in shared memory as C/8, H, W,
// 8 and the filter as R S, C/8, K, 8. Planes come in pairs, a step of wgmma; one beyond C is outside the tensors and
// zero.
#pragma once

#include "conv/cuda/igemm_plan.h"
#include "core/cuda/tensor_map.h"

namespace fastconv {
namespace {

constexpr int kHaloConsumers = 2, kHaloMostSlots = 4;

/// Shared memory begins with this; the filter and the slots follow.
struct HaloShared {
  alignas(16) float slabs[kHaloConsumers * 4][2 * 8 * 16];
  uint64_t full[kHaloMostSlots], empty[kHaloMostSlots], filter;
};
constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
constexpr int64_t kHaloFirst = round_up(sizeof(HaloShared), 128), kHaloRoom = 227 * 1024 - kHaloFirst;

/// A tile is 8 pixels wide, pixels / 8 high, and has all output channels, of which there are 64 or 128.
struct HaloPlan {
  int64_t channels, pixels, tiles_p, tiles_q, tiles;
  int64_t planes, halo_h, halo_w;
  int64_t filter_bytes, halo_bytes = 0, slot_bytes = 0;
  int64_t slots = 0;  // that find room beside the filter
};

inline HaloPlan halo_plan(const ConvProblem& p, int64_t channels, int64_t pixels) {
  constexpr int64_t kMostBox = 256;
  HaloPlan plan;
  plan.channels = channels, plan.pixels = pixels;
  plan.tiles_p = round_up(p.P, pixels / 8) / (pixels / 8), plan.tiles_q = round_up(p.Q, 8) / 8;
  plan.tiles = p.N * plan.tiles_p * plan.tiles_q;
  plan.planes = round_up(p.C, 16) / 8;
  plan.halo_h = pixels / 8 + (p.R - 1) * p.dilation_h, plan.halo_w = 8 + (p.S - 1) * p.dilation_w;
  plan.filter_bytes = p.R * p.S * plan.planes * channels * 16;
  if (std::max({plan.planes, plan.halo_h, plan.halo_w}) > kMostBox || plan.filter_bytes > kHaloRoom) return plan;
  plan.halo_bytes = plan.planes * plan.halo_h * plan.halo_w * 16;
  plan.slot_bytes = round_up(plan.halo_bytes, 128);
  plan.slots = std::min<int64_t>(kHaloMostSlots, (kHaloRoom - plan.filter_bytes) / plan.slot_bytes);
  return plan;
}

/// The tile that gives the busiest multiprocessor the fewest pixels; of equals the larger, which has less of a halo.
inline HaloPlan halo_plan_for(const ConvProblem& p, int64_t processors) {
  const HaloPlan small = halo_plan(p, p.K > 64 ? 128 : 64, 128);
  if (p.K > 64) return small;
  const HaloPlan large = halo_plan(p, 64, 256);
  const auto most = [&](const HaloPlan& plan) {
    const int64_t at_once = kHaloConsumers * processors;
    return round_up(plan.tiles, at_once) / at_once * plan.pixels;
  };
  return large.slots >= kHaloConsumers && most(large) <= most(small) ? large : small;
}

inline const char* halo_why_not(const ConvProblem& p) {
  if (const char* reason = igemm_half_why_not(p)) return reason;
  if (!p.is_2d()) return "takes images only";
  if (p.groups != 1) return "takes one group only";
  if (!p.has_unit_stride()) return "takes unit strides only";
  if (p.R * p.S == 1) return "takes filters of more than one tap";
  if (p.K > 128) return "takes up to 128 output channels";
  if (halo_plan(p, p.K > 64 ? 128 : 64, 128).slots < kHaloConsumers)
    return "takes filters that leave room in shared memory for two tiles of 8 x 16 pixels with what their taps reach";
  return nullptr;
}

inline TensorMap map_of_halo(const ConvProblem& p, const void* x, const HaloPlan& plan) {
  const int64_t pixel = p.C * element_size(p.dtype);
  TiledTensor tensor;
  tensor.dtype = p.dtype, tensor.data = x, tensor.rank = 5;
  tensor.extent[0] = 8, tensor.extent[1] = p.W, tensor.extent[2] = p.H, tensor.extent[3] = p.C / 8;
  tensor.extent[4] = p.N;
  tensor.stride[0] = element_size(p.dtype), tensor.stride[1] = pixel, tensor.stride[2] = p.W * pixel;
  tensor.stride[3] = 16, tensor.stride[4] = p.H * p.W * pixel;
  tensor.box[0] = 8, tensor.box[1] = static_cast<int>(plan.halo_w), tensor.box[2] = static_cast<int>(plan.halo_h);
  tensor.box[3] = static_cast<int>(plan.planes);
  return tensor_map(tensor);
}

inline TensorMap map_of_planes(const ConvProblem& p, const void* krsc, const HaloPlan& plan) {
  const int64_t tap = p.C * element_size(p.dtype);
  TiledTensor tensor;
  tensor.dtype = p.dtype, tensor.data = krsc, tensor.rank = 4;
  tensor.extent[0] = 8, tensor.extent[1] = p.K, tensor.extent[2] = p.C / 8, tensor.extent[3] = p.R * p.S;
  tensor.stride[0] = element_size(p.dtype), tensor.stride[1] = p.R * p.S * tap, tensor.stride[2] = 16;
  tensor.stride[3] = tap;
  tensor.box[0] = 8, tensor.box[1] = static_cast<int>(plan.channels), tensor.box[2] = static_cast<int>(plan.planes);
  tensor.box[3] = static_cast<int>(p.R * p.S);
  return tensor_map(tensor);
}

}  // namespace
}  // namespace fastconv
