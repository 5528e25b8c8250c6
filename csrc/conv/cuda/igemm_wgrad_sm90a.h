// Implicit GEMM for wgrad on Hopper: dw[k, (c, r, s)] = sum over pixels of dy[pixel, k] * x[pixel under tap (r, s), c].
//
// TMA brings boxes of pixels by 64 channels: of dy as they lie, of x in im2col mode, zeros where the tap lies outside.
// Both operands have their pixels, which the product sums over, as rows of 128 bytes: "MN-major" for wgmma, which takes
// 16-bit types so. Boxes follow one another, so one product spans the 192 columns of three taps or 64-channel blocks
// and reads dy for all of them.
//
// One thread of the last warpgroup loads ahead, kSlots steps; the others multiply, each its rows and boxes of the tile.
// Boxes beyond K or the last tap are not loaded: what their place holds reaches sums that are not stored. Pixels after
// the last are zero in dy, where TMA ends, and in x, whose images end there too: they add nothing.
//
// Sums of each split lie in the workspace as floats [split][K][R S C] until add_splits.h adds them.
#pragma once

#include "conv/cuda/add_splits.h"
#include "conv/cuda/igemm_sm90a.h"
#include "conv/cuda/igemm_wgrad_sm90a_plan.h"

namespace fastconv {
namespace {

template <class Element, int kKind>
struct HopperWgradTile {
  using T = Element;
  static constexpr HopperWgradKind kOf = kHopperWgradKinds[kKind];
  static constexpr int kM = kOf.filters(), kBoxes = kOf.boxes(), kDepth = kOf.depth;
  static constexpr int kRowGroups = kOf.row_groups, kRowBlocks = kOf.row_blocks;
  static constexpr int kN = kHopperWgradBoxes * 64;  // of a warpgroup
  static constexpr int kGroup = 128, kConsumers = kRowGroups * kOf.column_groups;
  static constexpr int kThreads = (kConsumers + 1) * kGroup;
  static constexpr int kRegisters = kConsumers == 2 ? 232 : 152;  // of a thread that multiplies
  static_assert(kGroup * (kConsumers * kRegisters + 40) <= 65536);

  static constexpr int kRowBytes = 128, kBoxBytes = kDepth * kRowBytes;
  struct Slot {
    alignas(1024) unsigned char dy[kM / 64][kBoxBytes], x[kBoxes][kBoxBytes];
  };
  static constexpr int kSlots = 224 * 1024 / static_cast<int>(sizeof(Slot));
  struct Shared {
    Slot slots[kSlots];
    uint64_t full[kSlots], empty[kSlots];
  };
  static_assert(kSlots >= 4 && sizeof(Shared) <= 227 * 1024);
};

/// What a block, and in it a warpgroup, has to do.
template <class Tile>
struct HopperWgradWork {
  int first_k, first_box, first_pixel, steps;

  __device__ __forceinline__ explicit HopperWgradWork(const HopperWgradShape& p) {
    int tile_m;
    const int tile_n = p.by_tiles_n.divmod(static_cast<int>(blockIdx.x), &tile_m);
    first_k = tile_m * Tile::kM, first_box = tile_n * Tile::kBoxes;
    first_pixel = static_cast<int>(blockIdx.y) * p.split_pixels;
    const int left = p.pixels - first_pixel, pixels = left < p.split_pixels ? left : p.split_pixels;
    steps = (pixels + Tile::kDepth - 1) / Tile::kDepth;
  }

  /// The first filter, and the first box, of a warpgroup.
  __device__ __forceinline__ int k_of(int group) const {
    return first_k + group % Tile::kRowGroups * Tile::kRowBlocks * 64;
  }
  __device__ __forceinline__ int box_of(int group) const {
    return first_box + group / Tile::kRowGroups * kHopperWgradBoxes;
  }
  __device__ __forceinline__ bool multiplies(const HopperWgradShape& p, int group) const {
    return k_of(group) < p.K && box_of(group) < p.boxes;
  }
};

template <class Tile>
__device__ __forceinline__ void load_pixels(const HopperWgradShape& p, const HopperWgradWork<Tile>& work,
                                            const TensorMap& x, const TensorMap& dy) {
  auto& s = shared_memory<typename Tile::Shared>();
  const int left_k = (p.K - work.first_k + 63) / 64, left_x = p.boxes - work.first_box;
  const int dy_boxes = left_k < Tile::kM / 64 ? left_k : Tile::kM / 64;
  const int x_boxes = left_x < Tile::kBoxes ? left_x : Tile::kBoxes;
  int block_c, first_r;
  const int first_s = p.by_s.divmod(p.by_taps.divmod(work.first_box, &block_c), &first_r);
  RingPlace<Tile::kSlots> place;
  for (int step = 0; step < work.steps; ++step) {
    const int pixel = work.first_pixel + step * Tile::kDepth;
    int row, n;
    const int q = p.by_q.divmod(pixel, &row);
    const int h = p.by_p.divmod(row, &n) * p.stride_h - p.pad_h, w = q * p.stride_w - p.pad_w;
    auto& slot = s.slots[place.slot];
    uint64_t* const full = &s.full[place.slot];
    ptx::mbarrier_wait(&s.empty[place.slot], place.parity ^ 1);
    ptx::mbarrier_arrive_expect_tx(full, static_cast<unsigned>((dy_boxes + x_boxes) * Tile::kBoxBytes));
#pragma unroll 1
    for (int i = 0; i < dy_boxes; ++i) ptx::tma_load<2>(slot.dy[i], dy, {work.first_k + 64 * i, pixel}, full);
    int c = block_c * 64, r = first_r, tap_s = first_s;
#pragma unroll 1
    for (int i = 0; i < x_boxes; ++i) {
      const uint16_t tap[2] = {static_cast<uint16_t>(tap_s * p.dilation_w), static_cast<uint16_t>(r * p.dilation_h)};
      ptx::tma_load_im2col<4>(slot.x[i], x, {c, w, h, n}, tap, full);
      if (++tap_s < p.S) continue;
      tap_s = 0;
      if (++r < p.R) continue;
      r = 0, c += 64;
    }
    place.next();
  }
}

template <class Tile>
__device__ __forceinline__ void multiply_pixels(int steps, int group, float (&sum)[Tile::kRowBlocks][Tile::kN / 2]) {
  using ptx::Major;
  auto& s = shared_memory<typename Tile::Shared>();
  const int row_group = group % Tile::kRowGroups, column_group = group / Tile::kRowGroups;
  const bool speaks = threadIdx.x % kWarpSize == 0;
  RingPlace<Tile::kSlots> place;
  int before = 0;
  for (int step = 0; step < steps; ++step) {
    ptx::mbarrier_wait(&s.full[place.slot], place.parity);
    auto& slot = s.slots[place.slot];
    const uint64_t a =
        ptx::wgmma_operand(slot.dy[row_group * Tile::kRowBlocks], Tile::kBoxBytes, 8 * Tile::kRowBytes, Swizzle::k128);
    const uint64_t b = ptx::wgmma_operand(slot.x[column_group * kHopperWgradBoxes], Tile::kBoxBytes,
                                          8 * Tile::kRowBytes, Swizzle::k128);
    ptx::wgmma_fence();
#pragma unroll
    for (unsigned k = 0; k < Tile::kDepth; k += 16)
#pragma unroll
      for (unsigned i = 0; i < Tile::kRowBlocks; ++i)
        ptx::wgmma_m64k16<typename Tile::T, Tile::kN, Major::kMN, Major::kMN>(
            sum[i], ptx::advance(a, i * Tile::kBoxBytes + k * Tile::kRowBytes), ptx::advance(b, k * Tile::kRowBytes),
            step > 0 || k > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (speaks && step > 0) ptx::mbarrier_arrive(&s.empty[before]);
    before = place.slot;
    place.next();
  }
  ptx::wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < Tile::kRowBlocks; ++i) ptx::wgmma_keep_order(sum[i]);
}

/// Four lanes write 32 bytes side by side.
template <class Tile>
__device__ __forceinline__ void store_partial(const HopperWgradShape& p, const HopperWgradWork<Tile>& work, int group,
                                              const float (&sum)[Tile::kRowBlocks][Tile::kN / 2],
                                              float* __restrict__ partial) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) % Tile::kGroup / kWarpSize;
  const int first_k = work.k_of(group) + warp * 16 + lane / 4;
  const int64_t split_row = int64_t{blockIdx.y} * p.K;
#pragma unroll
  for (int j = 0; j < kHopperWgradBoxes; ++j) {
    const int box = work.box_of(group) + j;
    if (box >= p.boxes) continue;
    int block_c;
    const int tap = p.by_taps.divmod(box, &block_c), first_c = block_c * 64 + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2 * Tile::kRowBlocks; ++i) {  // halves of 8 rows
      const int k = first_k + i / 2 * 64 + i % 2 * 8;
      if (k >= p.K) continue;
      float* const to = partial + (split_row + k) * p.row + tap * p.C + first_c;
#pragma unroll
      for (int column = 0; column < 64; column += 8) {
        const float* from = &sum[i / 2][j * 32 + column / 2 + i % 2 * 2];
        if (first_c + column < p.C) store_pack(to + column, Pack<float, 2>{from[0], from[1]});
      }
    }
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    igemm_wgrad_hopper(const __grid_constant__ HopperWgradShape p, const __grid_constant__ TensorMap x,
                       const __grid_constant__ TensorMap dy, float* __restrict__ partial) {
  auto& s = shared_memory<typename Tile::Shared>();
  const HopperWgradWork<Tile> work(p);
  if (threadIdx.x == 0) {
    unsigned groups = 0;
    for (int group = 0; group < Tile::kConsumers; ++group) groups += work.multiplies(p, group);
    for (int i = 0; i < Tile::kSlots; ++i) {
      ptx::mbarrier_init(&s.full[i], 1);
      ptx::mbarrier_init(&s.empty[i], groups * (Tile::kGroup / kWarpSize));
    }
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(x);
    ptx::prefetch_tensor_map(dy);
  }
  __syncthreads();
  if (threadIdx.x >= Tile::kConsumers * Tile::kGroup) {
    ptx::decrease_max_registers<40>();
    if (threadIdx.x == Tile::kConsumers * Tile::kGroup) load_pixels<Tile>(p, work, x, dy);
    return;
  }
  ptx::increase_max_registers<Tile::kRegisters>();
  const int group = static_cast<int>(threadIdx.x) / Tile::kGroup;
  if (!work.multiplies(p, group)) return;
  float sum[Tile::kRowBlocks][Tile::kN / 2];
  multiply_pixels<Tile>(work.steps, group, sum);
  store_partial<Tile>(p, work, group, sum, partial);
}

template <class T, int kKind>
void launch_hopper_wgrad(const char* name, const ConvProblem& p, const ConvArgs& args, const HopperWgradShape& shape,
                         int splits) {
  using Tile = HopperWgradTile<T, kKind>;
  TensorMap x, dy;
  try {
    x = map_of_pixels(p, args.x, Tile::kDepth);
    dy = map_of_output_pixels(p, args.dy, Tile::kDepth);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string(error.what()) + " (" + name + " on " + encode(p) + ")");
  }
  const int tiles = (shape.K + Tile::kM - 1) / Tile::kM * shape.by_tiles_n.divisor();
  launch(name, p, igemm_wgrad_hopper<Tile>,
         {.grid = {static_cast<unsigned>(tiles), static_cast<unsigned>(splits)},
          .block = {Tile::kThreads},
          .shared_bytes = sizeof(typename Tile::Shared),
          .stream = args.stream},
         shape, x, dy, static_cast<float*>(args.workspace));
}

template <class T>
void run_igemm_wgrad_hopper(const char* name, const ConvProblem& p, const ConvArgs& args) {
  const HopperWgradPlan plan(p, multiprocessors());
  const HopperWgradShape shape = hopper_wgrad_shape(p, plan);
  if (plan.splits) {
    if (plan.kind == 0) launch_hopper_wgrad<T, 0>(name, p, args, shape, plan.splits);
    else if (plan.kind == 1) launch_hopper_wgrad<T, 1>(name, p, args, shape, plan.splits);
    else launch_hopper_wgrad<T, 2>(name, p, args, shape, plan.splits);
  }
  launch_add_splits(name, p, args, plan.splits, p.w_elements() / 4, WriteChannels<T>{shape_of(p), args.w});
}

}  // namespace
}  // namespace fastconv
