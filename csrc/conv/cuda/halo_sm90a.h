// Direct convolution for Hopper, unit stride: the pixels that a tile of outputs reads, the tile and its halo, come to
// shared memory once, and every tap multiplies them where they lie. An implicit GEMM loads them again for each tap.
//
// Pixels lie as C/8, H, W, 8: sixteen bytes a pixel and plane, which wgmma takes without a swizzle, eight pixels of a
// row as eight rows of an operand, and from image row to image row the operand's stride. The tap (r, s) is the same
// operand `r * dilation_h` rows and `s * dilation_w` pixels further on. Images' edges are zeros that TMA fills in.
//
// Output channels are the 64 rows of the product, pixels its 128 or 256 columns: a wgmma of 256 columns reads 80 bytes
// of shared memory a clock of the 128, the 64 channels of 64 pixels would take all of them.
//
// A block of three warpgroups keeps to its multiprocessor. One thread of the third loads the filter, which stays, and
// the tiles, as many ahead as slots find room. The first two take tiles in turn, each a whole one: one stores while the
// other multiplies. A warp has 16 channels; they go through its slab to be stored in 16 bytes.
#pragma once

#include "conv/cuda/halo_sm90a_plan.h"
#include "core/cuda/epilogue.h"
#include "core/cuda/gpu.h"
#include "core/cuda/ptx_barrier.h"
#include "core/cuda/ptx_tma.h"
#include "core/cuda/ptx_wgmma.h"

namespace fastconv {
namespace {

template <class Element, int kBlocks64, int kColumns>
struct HaloTile {
  using T = Element;
  static constexpr int kBlocks = kBlocks64, kChannels = 64 * kBlocks;  // wgmma's rows
  static constexpr int kPixels = kColumns, kRows = kPixels / 8;        // of the image
  static constexpr int kGroup = 128, kThreads = (kHaloConsumers + 1) * kGroup;
};

struct HaloShape {
  int P, Q, K, R, S, steps;  // of 16 channels
  int pad_h, pad_w, tiles, slots;
  unsigned filter_bytes, halo_bytes, slot_bytes;
  unsigned plane_bytes, row_bytes, tap_h_bytes, tap_w_bytes;
  FastDivmod by_tiles_q, by_tiles_p;
};

/// The slot of a tile, and the parity of its round.
struct HaloPlace {
  int slot = 0;
  unsigned parity = 0;
  __device__ __forceinline__ void next(int slots) {
    if (++slot < slots) return;
    slot = 0, parity ^= 1;
  }
};

/// The first pixel of a tile.
struct HaloPixel {
  int n, p, q;
};
template <class Tile>
__device__ __forceinline__ HaloPixel first_pixel(const HaloShape& shape, int tile) {
  HaloPixel at;
  at.q = shape.by_tiles_q.divmod(tile, &tile) * 8;
  at.p = shape.by_tiles_p.divmod(tile, &at.n) * Tile::kRows;
  return at;
}

__device__ __forceinline__ unsigned char* halo_filter() { return &shared_memory<unsigned char>() + kHaloFirst; }
__device__ __forceinline__ unsigned char* halo_slot(const HaloShape& shape, int slot) {
  return halo_filter() + shape.filter_bytes + static_cast<unsigned>(slot) * shape.slot_bytes;
}

template <class Tile>
__device__ __forceinline__ void load_halos(const HaloShape& shape, const TensorMap& x, const TensorMap& filter) {
  auto& s = shared_memory<HaloShared>();
  ptx::mbarrier_arrive_expect_tx(&s.filter, shape.filter_bytes);
  ptx::tma_load<4>(halo_filter(), filter, {0, 0, 0, 0}, &s.filter);
  HaloPlace place;
  for (int tile = static_cast<int>(blockIdx.x); tile < shape.tiles; tile += static_cast<int>(gridDim.x)) {
    const HaloPixel at = first_pixel<Tile>(shape, tile);
    ptx::mbarrier_wait(&s.empty[place.slot], place.parity ^ 1);
    ptx::mbarrier_arrive_expect_tx(&s.full[place.slot], shape.halo_bytes);
    ptx::tma_load<5>(halo_slot(shape, place.slot), x, {0, at.q - shape.pad_w, at.p - shape.pad_h, 0, at.n},
                     &s.full[place.slot]);
    place.next(shape.slots);
  }
}

/// Begins the products of one tile. Steps of the filter lie one after the other, taps outside, channels inside. One
/// loop with a fence and a group a step: ptxas makes wgmma of nested loops wait for one another.
template <class Tile>
__device__ __forceinline__ void multiply_halo(const HaloShape& shape, const unsigned char* slot,
                                              float (&sum)[Tile::kBlocks][Tile::kPixels / 2]) {
  constexpr unsigned kPlaneOfFilter = Tile::kChannels * 16;
  uint64_t filter = ptx::wgmma_operand(halo_filter(), kPlaneOfFilter, 8 * 16, Swizzle::kNone);
  const uint64_t halo = ptx::wgmma_operand(slot, shape.plane_bytes, shape.row_bytes, Swizzle::kNone);
  const int steps = shape.R * shape.S * shape.steps;
  int channel_step = 0, s = 0;
  unsigned tap = 0, tap_row = 0, at = 0;
  for (int step = 0; step < steps; ++step) {
    ptx::wgmma_fence();
#pragma unroll
    for (unsigned i = 0; i < Tile::kBlocks; ++i)
      ptx::wgmma_m64k16<typename Tile::T, Tile::kPixels>(sum[i], ptx::advance(filter, i * 64 * 16),
                                                         ptx::advance(halo, at), step > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<4>();  // none but a few are under way
    filter = ptx::advance(filter, 2 * kPlaneOfFilter), at += 2 * shape.plane_bytes;
    if (++channel_step < shape.steps) continue;
    channel_step = 0, tap += shape.tap_w_bytes;
    if (++s == shape.S) s = 0, tap = tap_row += shape.tap_h_bytes;
    at = tap;
  }
}

/// A lane's two channels of each block.
template <class Tile>
struct HaloScale {
  float scale[Tile::kBlocks][2], shift[Tile::kBlocks][2];

  __device__ __forceinline__ HaloScale(const Epilogue& epilogue, int first, int K) {
#pragma unroll
    for (int i = 0; i < Tile::kBlocks; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int channel = first + i * 64 + half * 8;
        const bool inside = channel < K;
        scale[i][half] = epilogue.scale && inside ? static_cast<const float*>(epilogue.scale)[channel] : 1;
        shift[i][half] = epilogue.shift && inside ? static_cast<const float*>(epilogue.shift)[channel] : 0;
      }
  }

  __device__ __forceinline__ void apply(float (&sum)[Tile::kBlocks][Tile::kPixels / 2]) const {
#pragma unroll
    for (int i = 0; i < Tile::kBlocks; ++i)
#pragma unroll
      for (int d = 0; d < Tile::kPixels / 2; ++d) sum[i][d] = sum[i][d] * scale[i][d / 2 % 2] + shift[i][d / 2 % 2];
  }
};

/// Where a slab has a pixel of 8 and a channel of 16: lanes that write two pixels of one parity, and lanes that read
/// four channels of a pixel, meet all banks.
__device__ __forceinline__ int slab_place(int pixel, int channel) {
  return (pixel % 2 * 4 + pixel / 2) * 16 + (channel ^ (pixel / 4 * 8 + pixel % 2 * 4));
}

/// Two image rows of 8 pixels x 16 channels of a warp at a time go through its slab and come back as 8 channels a lane.
/// Four times that are a part, whose residual is asked for before.
template <class Tile>
__device__ __forceinline__ void store_halo(const HaloShape& shape, const HaloPixel& at,
                                           const float (&sum)[Tile::kBlocks][Tile::kPixels / 2],
                                           typename Tile::T* __restrict__ out, const Epilogue& epilogue) {
  using T = typename Tile::T;
  constexpr int kLanes = 8, kPairs = 4, kPartRows = 2 * kPairs, kPartsOfBlock = Tile::kRows / kPartRows;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int g = lane / 4, t = lane % 4;
  const int pixel = lane / 2 % 8, row = lane / 16, chunk = lane % 2 * kLanes;
  float* const slab = shared_memory<HaloShared>().slabs[warp];
#pragma unroll 1  // the activations, written out for every sum, would take long to compile
  for (int part = 0; part < Tile::kBlocks * kPartsOfBlock; ++part) {
    const int channel = part / kPartsOfBlock * 64 + warp % 4 * 16 + chunk;
    const int p = at.p + part % kPartsOfBlock * kPartRows + row, q = at.q + pixel;
    const bool inside = q < shape.Q && channel < shape.K;
    const int64_t two_rows = int64_t{2} * shape.Q * shape.K;
    const int64_t first = ((int64_t{at.n} * shape.P + p) * shape.Q + q) * shape.K + channel;
    Pack<T, kLanes> residual[kPairs] = {};
    if (epilogue.residual && inside)
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair)
        if (p + 2 * pair < shape.P)
          residual[pair] = load_pack<kLanes>(static_cast<const T*>(epilogue.residual) + first + pair * two_rows);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
#pragma unroll
      for (int i = 0; i < Tile::kBlocks * kPartsOfBlock; ++i) {
        if (i != part) continue;  // sums are registers, whose number the code must name
#pragma unroll
        for (int k = 0; k < 8; ++k)
          slab[k / 4 * 8 * 16 + slab_place(2 * t + k % 2, g + k / 2 % 2 * 8)] =
              sum[i / kPartsOfBlock][(i % kPartsOfBlock * kPartRows + 2 * pair) * 4 + k];
      }
      __syncwarp();
      if (inside && p + 2 * pair < shape.P) {
        const float* const from = slab + row * 8 * 16;
        const Pack<float, 4> halves[2] = {load_pack<4>(from + slab_place(pixel, chunk)),
                                          load_pack<4>(from + slab_place(pixel, chunk + 4))};
        float values[kLanes];
#pragma unroll
        for (int l = 0; l < kLanes; ++l) values[l] = halves[l / 4].at[l % 4] + widen(residual[pair].at[l]);
        activate_all(values, epilogue.activation);
        store_pack(out + first + pair * two_rows, narrow_all<T>(values));
      }
      __syncwarp();
    }
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    convolve_halos(const __grid_constant__ HaloShape shape, const __grid_constant__ TensorMap x,
                   const __grid_constant__ TensorMap filter, typename Tile::T* __restrict__ out,
                   const __grid_constant__ Epilogue epilogue) {
  auto& s = shared_memory<HaloShared>();
  if (threadIdx.x == 0) {
    for (int i = 0; i < shape.slots; ++i) {
      ptx::mbarrier_init(&s.full[i], 1);
      ptx::mbarrier_init(&s.empty[i], Tile::kGroup / kWarpSize);
    }
    ptx::mbarrier_init(&s.filter, 1);
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(x);
    ptx::prefetch_tensor_map(filter);
  }
  __syncthreads();
  if (threadIdx.x >= kHaloConsumers * Tile::kGroup) {
    ptx::decrease_max_registers<40>();
    if (threadIdx.x == kHaloConsumers * Tile::kGroup) load_halos<Tile>(shape, x, filter);
    return;
  }
  ptx::increase_max_registers<232>();
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int group = warp / 4, first = static_cast<int>(blockIdx.x), step = static_cast<int>(gridDim.x);
  const HaloScale<Tile> lane_scale(epilogue, warp % 4 * 16 + lane / 4, shape.K);
  // Barrier 1 + group is that group's turn to multiply.
  const unsigned own_turn = static_cast<unsigned>(1 + group), other_turn = own_turn ^ 3;
  HaloPlace place;
  if (group) place.next(shape.slots);
  ptx::mbarrier_wait(&s.filter, 0);
  for (int tile = first + group * step; tile < shape.tiles; tile += kHaloConsumers * step) {
    ptx::mbarrier_wait(&s.full[place.slot], place.parity);
    if (tile != first) ptx::named_barrier_sync(own_turn, kHaloConsumers * Tile::kGroup);
    float sum[Tile::kBlocks][Tile::kPixels / 2];
    multiply_halo<Tile>(shape, halo_slot(shape, place.slot), sum);
    if (tile + step < shape.tiles) ptx::named_barrier_arrive(other_turn, kHaloConsumers * Tile::kGroup);
    ptx::wgmma_wait<0>();
#pragma unroll
    for (int i = 0; i < Tile::kBlocks; ++i) ptx::wgmma_keep_order(sum[i]);
    if (lane == 0) ptx::mbarrier_arrive(&s.empty[place.slot]);
    for (int i = 0; i < kHaloConsumers; ++i) place.next(shape.slots);
    lane_scale.apply(sum);
    store_halo<Tile>(shape, first_pixel<Tile>(shape, tile), sum, out, epilogue);
  }
}

template <class Tile>
void launch_halo(const char* name, const ConvProblem& p, const HaloPlan& plan, const void* krsc, const ConvArgs& args,
                 int processors) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  const auto u = [](int64_t value) { return static_cast<unsigned>(value); };
  const int64_t row = plan.halo_w * 16;
  const HaloShape shape = {i(p.P),
                           i(p.Q),
                           i(p.K),
                           i(p.R),
                           i(p.S),
                           i(plan.planes / 2),
                           i(p.pad_h),
                           i(p.pad_w),
                           i(plan.tiles),
                           i(plan.slots),
                           u(plan.filter_bytes),
                           u(plan.halo_bytes),
                           u(plan.slot_bytes),
                           u(plan.halo_h * row),
                           u(row),
                           u(p.dilation_h * row),
                           u(p.dilation_w * 16),
                           FastDivmod(i(plan.tiles_q)),
                           FastDivmod(i(plan.tiles_p))};
  TensorMap x, filter;
  try {
    x = map_of_halo(p, args.x, plan);
    filter = map_of_planes(p, krsc, plan);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string(error.what()) + " (" + name + " on " + encode(p) + ")");
  }
  launch(name, p, convolve_halos<Tile>,
         {.grid = {u(std::min<int64_t>(plan.tiles, processors))},
          .block = {Tile::kThreads},
          .shared_bytes = static_cast<size_t>(kHaloFirst + plan.filter_bytes + plan.slots * plan.slot_bytes),
          .stream = args.stream},
         shape, x, filter, static_cast<typename Tile::T*>(args.out), args.epilogue);
}

template <class T>
void run_halo(const char* name, const ConvProblem& p, const ConvArgs& args) {
  if (p.y_elements() == 0) return;
  const T* krsc = krsc_of<T>(name, p, args);
  const int processors = multiprocessors();
  const HaloPlan plan = halo_plan_for(p, processors);
  if (plan.channels == 128) launch_halo<HaloTile<T, 2, 128>>(name, p, plan, krsc, args, processors);
  else if (plan.pixels == 256) launch_halo<HaloTile<T, 1, 256>>(name, p, plan, krsc, args, processors);
  else launch_halo<HaloTile<T, 1, 128>>(name, p, plan, krsc, args, processors);
}

}  // namespace
}  // namespace fastconv
