// Implicit GEMM for Hopper: y = the matrix of gemm_m pixels x gemm_k, never made, times the filter. TMA in im2col mode
// gathers the pixels of one tap and 64 channels, zeros where the tap lies outside; wgmma multiplies from shared memory.
//
// A block of three warpgroups keeps to its multiprocessor and walks over tiles of kM pixels x kN filters. One thread of
// the third loads ahead, kSlots steps of 64 channels, also while the others store: the ring goes on from tile to tile.
// The first two multiply, kM / 2 pixels each, and give a slot back when the product after it has begun.
// Channels are outside, taps inside: the pixels that a tap shares with the tap before are still in L2.
//
// L2 gives a multiprocessor less than wgmma can take in. Where K has an even number of tiles, two blocks of a cluster
// take neighbours of the same pixels: each loads half of the pixels, into both. A slot is free when the consumers of
// both have given it back.
//
// Rows of a slot are 128 bytes, swizzled, as wgmma takes K-major operands. What the channel box reaches beyond C is
// zero in both operands, what the filter box reaches beyond K is not stored.
#pragma once

#include "conv/cuda/igemm_sm90a_plan.h"
#include "core/cuda/epilogue.h"
#include "core/cuda/gpu.h"
#include "core/cuda/ptx_barrier.h"
#include "core/cuda/ptx_tma.h"
#include "core/cuda/ptx_wgmma.h"

namespace fastconv {
namespace {

template <class Element, int kTileM, int kTileN, int kBlocksOfCluster = 1>
struct HopperTile {
  using T = Element;
  static constexpr int kCluster = kBlocksOfCluster;  // blocks that share their pixels
  static constexpr int kM = kTileM, kN = kTileN, kDepth = kHopperDepth, kRowBytes = 2 * kDepth;
  static constexpr int kGroup = 128, kConsumers = 2, kThreads = (kConsumers + 1) * kGroup;
  static constexpr int kConsumerWarps = kConsumers * kGroup / kWarpSize;
  static constexpr int kBlocks = kM / kConsumers / 64;  // of wgmma's 64 rows, a warpgroup
  static constexpr int kSlots = 192 * 1024 / ((kM + kN) * kRowBytes);
  static constexpr int kLoadedM = kM / kCluster;  // pixels that a block loads
  static_assert(kBlocks * 64 * kConsumers == kM && kSlots >= 4 && kLoadedM % 8 == 0);

  struct Slot {
    alignas(1024) unsigned char a[kM * kRowBytes], b[kN * kRowBytes];
  };
  static constexpr unsigned kSlotBytes = (kM + kN) * kRowBytes;
  struct Shared {
    Slot slots[kSlots];
    alignas(16) float slabs[kConsumerWarps][16][64];
    uint64_t full[kSlots], empty[kSlots];
  };
  static_assert(sizeof(Shared) <= 227 * 1024);
};

/// A place in the ring, and the parity of its round.
template <int kSlots>
struct RingPlace {
  int slot = 0;
  unsigned parity = 0;
  __device__ __forceinline__ void next() {
    if (++slot < kSlots) return;
    slot = 0, parity ^= 1;
  }
};

/// The tiles of a block: clusters take turns, a step of the walk is a tile of pixels and kCluster tiles of filters.
template <class Tile>
struct HopperWalk {
  int step, rank;
  __device__ __forceinline__ HopperWalk()
      : step(static_cast<int>(blockIdx.x) / Tile::kCluster), rank(static_cast<int>(blockIdx.x) % Tile::kCluster) {}
  __device__ __forceinline__ bool more(const HopperShape& p) const { return step < p.steps; }
  __device__ __forceinline__ void next() { step += static_cast<int>(gridDim.x) / Tile::kCluster; }
  /// The first pixel, and the first filter.
  __device__ __forceinline__ int first_m(const HopperShape& p, int* first_n) const {
    int tile_m;
    *first_n = (p.by_steps_n.divmod(step, &tile_m) * Tile::kCluster + rank) * Tile::kN;
    return tile_m * Tile::kM;
  }
};

template <class Tile>
__device__ __forceinline__ void load_tiles(const HopperShape& p, const TensorMap& x, const TensorMap& filter) {
  constexpr uint16_t kAllRanks = (1u << Tile::kCluster) - 1;
  auto& s = shared_memory<typename Tile::Shared>();
  RingPlace<Tile::kSlots> place;
  for (HopperWalk<Tile> walk; walk.more(p); walk.next()) {
    int first_n, row, n;
    const int loaded = walk.rank * Tile::kLoadedM;  // from the first pixel on
    const int q = p.by_q.divmod(walk.first_m(p, &first_n) + loaded, &row);
    const int h = p.by_p.divmod(row, &n) * p.stride_h - p.pad_h, w = q * p.stride_w - p.pad_w;
    for (int c = 0; c < p.C; c += Tile::kDepth)
      for (int r = 0; r < p.R; ++r)
        for (int tap_s = 0; tap_s < p.S; ++tap_s) {
          auto& slot = s.slots[place.slot];
          uint64_t* const full = &s.full[place.slot];
          ptx::mbarrier_wait(&s.empty[place.slot], place.parity ^ 1);
          ptx::mbarrier_arrive_expect_tx(full, Tile::kSlotBytes);
          const uint16_t tap[2] = {static_cast<uint16_t>(tap_s * p.dilation_w),
                                   static_cast<uint16_t>(r * p.dilation_h)};
          if constexpr (Tile::kCluster == 1) ptx::tma_load_im2col<4>(slot.a, x, {c, w, h, n}, tap, full);
          else
            ptx::tma_load_im2col_multicast<4>(slot.a + loaded * Tile::kRowBytes, x, {c, w, h, n}, tap, full, kAllRanks);
          ptx::tma_load<3>(slot.b, filter, {c, r * p.S + tap_s, first_n}, full);
          place.next();
        }
  }
  // The other block gives slots back to this one, which must not have ended.
  if constexpr (Tile::kCluster > 1)
    for (int i = 0; i < Tile::kSlots; ++i, place.next()) ptx::mbarrier_wait(&s.empty[place.slot], place.parity ^ 1);
}

/// A warp has no more use for a slot: said to every block that loads into it.
template <class Tile>
__device__ __forceinline__ void give_back(uint64_t* empty) {
  const unsigned lane = threadIdx.x % kWarpSize;
  if constexpr (Tile::kCluster == 1) {
    if (lane == 0) ptx::mbarrier_arrive(empty);
  } else if (lane < Tile::kCluster) {
    ptx::mbarrier_arrive_at_rank(empty, lane);
  }
}

/// The products of one tile; `place` goes on.
template <class Tile>
__device__ __forceinline__ void multiply_tile(const HopperShape& p, float (&sum)[Tile::kBlocks][Tile::kN / 2],
                                              RingPlace<Tile::kSlots>& place) {
  auto& s = shared_memory<typename Tile::Shared>();
  const int group = static_cast<int>(threadIdx.x) / Tile::kGroup;
  const int steps = (p.C + Tile::kDepth - 1) / Tile::kDepth * p.R * p.S;
  int before = 0;
  for (int step = 0; step < steps; ++step) {
    ptx::mbarrier_wait(&s.full[place.slot], place.parity);
    auto& slot = s.slots[place.slot];
    const uint64_t a = ptx::wgmma_operand(slot.a + group * Tile::kBlocks * 64 * Tile::kRowBytes, 16,
                                          8 * Tile::kRowBytes, Swizzle::k128);
    const uint64_t b = ptx::wgmma_operand(slot.b, 16, 8 * Tile::kRowBytes, Swizzle::k128);
    ptx::wgmma_fence();
#pragma unroll
    for (unsigned k = 0; k < Tile::kDepth / 16; ++k)
#pragma unroll
      for (unsigned i = 0; i < Tile::kBlocks; ++i)
        ptx::wgmma_m64k16<typename Tile::T, Tile::kN>(sum[i], ptx::advance(a, i * 64 * Tile::kRowBytes + 32 * k),
                                                      ptx::advance(b, 32 * k), step > 0 || k > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (step > 0) give_back<Tile>(&s.empty[before]);
    before = place.slot;
    place.next();
  }
  ptx::wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < Tile::kBlocks; ++i) ptx::wgmma_keep_order(sum[i]);
  give_back<Tile>(&s.empty[before]);
}

/// 16 rows x 64 channels of a warp at a time go through its slab and come back as chunks of 8 channels: residual and
/// output are read and written in 16 bytes. Groups of 8 columns are exchanged by the row, against bank conflicts.
template <class Tile>
__device__ __forceinline__ void store_sums(const HopperShape& p, int first_m, int first_n,
                                           const float (&sum)[Tile::kBlocks][Tile::kN / 2],
                                           typename Tile::T* __restrict__ out, const Epilogue& epilogue) {
  using T = typename Tile::T;
  constexpr int kLanes = 8, kAcross = 64 / kLanes, kRowsAtOnce = kWarpSize / kAcross;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int g = lane / 4, t = lane % 4;
  auto& slab = shared_memory<typename Tile::Shared>().slabs[warp];
#pragma unroll
  for (int column = 0; column < Tile::kN; column += 64) {
    const int channel = first_n + column + lane % kAcross * kLanes;
    const bool inside_n = channel < p.K;
    float scale[kLanes], shift[kLanes];
#pragma unroll
    for (int l = 0; l < kLanes; ++l) {
      scale[l] = epilogue.scale && inside_n ? static_cast<const float*>(epilogue.scale)[channel + l] : 1;
      shift[l] = epilogue.shift && inside_n ? static_cast<const float*>(epilogue.shift)[channel + l] : 0;
    }
#pragma unroll
    for (int i = 0; i < Tile::kBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float* d = &sum[i][column / 2 + 4 * j];
        const int at = (j ^ g % 4) * 8 + 2 * t;
        store_pack(&slab[g][at], Pack<float, 2>{d[0], d[1]});
        store_pack(&slab[g + 8][at], Pack<float, 2>{d[2], d[3]});
      }
      __syncwarp();
#pragma unroll 1  // the activations, written out a hundred times, would take half a minute to compile
      for (int first = 0; first < 16; first += kRowsAtOnce) {
        const int row = first + lane / kAcross;
        const int m = first_m + (warp / 4 * Tile::kBlocks + i) * 64 + warp % 4 * 16 + row;
        if (m >= p.gemm_m || !inside_n) continue;
        const int64_t index = int64_t{m} * p.K + channel;
        Pack<T, kLanes> residual = {};
        if (epilogue.residual) residual = load_pack<kLanes>(static_cast<const T*>(epilogue.residual) + index);
        const float* from = &slab[row][(lane % kAcross ^ row % 4) * kLanes];
        const Pack<float, 4> halves[2] = {load_pack<4>(from), load_pack<4>(from + 4)};
        float values[kLanes];
#pragma unroll
        for (int l = 0; l < kLanes; ++l)
          values[l] = halves[l / 4].at[l % 4] * scale[l] + shift[l] + widen(residual.at[l]);
        activate_all(values, epilogue.activation);
        store_pack(out + index, narrow_all<T>(values));
      }
      __syncwarp();
    }
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    igemm_hopper(const __grid_constant__ HopperShape p, const __grid_constant__ TensorMap x,
                 const __grid_constant__ TensorMap filter, typename Tile::T* __restrict__ out,
                 const __grid_constant__ Epilogue epilogue) {
  auto& s = shared_memory<typename Tile::Shared>();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kSlots; ++i) {
      ptx::mbarrier_init(&s.full[i], 1);
      ptx::mbarrier_init(&s.empty[i], Tile::kConsumerWarps * Tile::kCluster);
    }
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(x);
    ptx::prefetch_tensor_map(filter);
  }
  if constexpr (Tile::kCluster == 1) __syncthreads();
  else ptx::cluster_sync();
  if (threadIdx.x >= Tile::kConsumers * Tile::kGroup) {
    ptx::decrease_max_registers<40>();
    if (threadIdx.x == Tile::kConsumers * Tile::kGroup) load_tiles<Tile>(p, x, filter);
    return;
  }
  ptx::increase_max_registers<232>();
  RingPlace<Tile::kSlots> place;
  for (HopperWalk<Tile> walk; walk.more(p); walk.next()) {
    int first_n;
    const int first_m = walk.first_m(p, &first_n);
    float sum[Tile::kBlocks][Tile::kN / 2];
    multiply_tile<Tile>(p, sum, place);
    store_sums<Tile>(p, first_m, first_n, sum, out, epilogue);
  }
}

inline int64_t hopper_tiles(const ConvProblem& p, int64_t m, int64_t n) {
  return (p.N * p.P * p.Q + m - 1) / m * ((p.K + n - 1) / n);
}

template <class Tile>
void launch_hopper(const char* name, const ConvProblem& p, const void* krsc, const ConvArgs& args, int processors) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  constexpr int kFilters = Tile::kN * Tile::kCluster;  // of a step
  const int steps = i(hopper_tiles(p, Tile::kM, kFilters)), steps_n = i((p.K + kFilters - 1) / kFilters);
  const HopperShape shape = {
      i(p.N * p.P * p.Q), i(p.K),     i(p.C),          i(p.R),          i(p.S), i(p.stride_h),       i(p.stride_w),
      i(p.pad_h),         i(p.pad_w), i(p.dilation_h), i(p.dilation_w), steps,  FastDivmod(steps_n), FastDivmod(i(p.Q)),
      FastDivmod(i(p.P))};
  TensorMap x, filter;
  try {
    x = map_of_pixels(p, args.x, Tile::kLoadedM);
    filter = map_of_filter(p, krsc, Tile::kN);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string(error.what()) + " (" + name + " on " + encode(p) + ")");
  }
  launch(name, p, igemm_hopper<Tile>,
         {.grid = {static_cast<unsigned>(std::min(steps, std::max(processors / Tile::kCluster, 1)) * Tile::kCluster)},
          .block = {Tile::kThreads},
          .shared_bytes = sizeof(typename Tile::Shared),
          .cluster = {Tile::kCluster},
          .stream = args.stream},
         shape, x, filter, static_cast<typename Tile::T*>(args.out), args.epilogue);
}

/// The largest tile of which every multiprocessor gets one.
template <class T>
void run_igemm_hopper(const char* name, const ConvProblem& p, const ConvArgs& args) {
  if (p.y_elements() == 0) return;
  const T* krsc = krsc_of<T>(name, p, args);
  const int processors = multiprocessors();
  if (p.K > 64 && hopper_tiles(p, 256, 128) >= processors) {
    if ((p.K + 127) / 128 % 2 == 0) return launch_hopper<HopperTile<T, 256, 128, 2>>(name, p, krsc, args, processors);
    return launch_hopper<HopperTile<T, 256, 128>>(name, p, krsc, args, processors);
  }
  if (hopper_tiles(p, 256, 64) >= processors)
    return launch_hopper<HopperTile<T, 256, 64>>(name, p, krsc, args, processors);
  launch_hopper<HopperTile<T, 128, 64>>(name, p, krsc, args, processors);
}

}  // namespace
}  // namespace fastconv
