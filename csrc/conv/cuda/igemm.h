// Implicit GEMM: fprop and dgrad of channels_last activations on tensor cores. The plan of phases, axes and taps is
// igemm_plan.h's, the main loop igemm_tile.h's.
//
// gemm_m are the output's pixels, gemm_n its channels in a group, gemm_k taps by the input's channels in a group. The
// matrix of gemm_m x gemm_k is never made: each chunk of 16 bytes, 8 channels (4 floats) of one pixel, is copied from
// the activation when its tile is due, and is zero where the tap lies outside.
//
// A thread copies the same chunk of the 4 along k for several pixels and filters, so that it walks over the taps for
// all of them at once (TapWalk). gemm_k is the taps outside and the channels inside, without a gap between the taps: a
// row of the filter is then read as it lies, any multiple of 8 channels fills the stages, and the step to the next
// chunk is one addition. The pixels that a tap shares with the tap before are read again, from L2: a block's tile for
// one tap is 128 pixels x C, 17 MB for all blocks at once at C = 256, which stays there.
//
// Blocks that share their pixels follow one another in the grid: the activation comes from DRAM once, the filter stays
// in L2. Groups and phases are grid axes.
#pragma once

#include "conv/cuda/igemm_plan.h"
#include "conv/cuda/igemm_tile.h"
#include "core/cuda/epilogue.h"

namespace fastconv {
namespace {

/// One thread's chunk along gemm_k: its tap and channel, from stage to stage.
class TapWalk {
 public:
  __device__ __forceinline__ TapWalk(const IgemmShape& p, const IgemmPhase& phase, int first) : c_(first) {
    enter_tap(p, phase);
  }

  template <int kDepth>
  __device__ __forceinline__ void next_stage(const IgemmShape& p, const IgemmPhase& phase) {
    c_ += kDepth;
    if (c_ >= p.channels) enter_tap(p, phase);
  }

  /// What a pixel's `reach` needs so that the tap lies inside; more than any has after the last tap.
  __device__ __forceinline__ unsigned needs() const { return needs_; }
  __device__ __forceinline__ bool at_end() const { return needs_ == kNever; }
  /// From the pixel of tap 0, and from the filter's row, to the chunk. Modulo 2^32: a sum that lies inside is right.
  __device__ __forceinline__ unsigned in_offset() const { return in_offset_ + static_cast<unsigned>(c_); }
  __device__ __forceinline__ unsigned filter_offset() const { return filter_offset_; }
  __device__ __forceinline__ int channel() const { return c_; }

 private:
  static constexpr unsigned kNever = 1u << 31;

  __device__ __forceinline__ void enter_tap(const IgemmShape& p, const IgemmPhase& phase) {
    while (c_ >= p.channels) {
      c_ -= p.channels;
      if (++s_ < phase.w.taps) continue;
      s_ = 0;
      if (++r_ < phase.h.taps) continue;
      r_ = 0, ++t_;
    }
    if (t_ >= phase.d.taps) {
      needs_ = kNever;
      return;
    }
    needs_ = 1u << t_ | 1u << (phase.d.taps + r_) | 1u << (phase.d.taps + phase.h.taps + s_);
    const auto u = [](int value) { return static_cast<unsigned>(value); };
    in_offset_ =
        ((u(t_ * phase.d.tap_step) * u(p.in_h) + u(r_ * phase.h.tap_step)) * u(p.in_w) + u(s_ * phase.w.tap_step)) *
        u(p.in_channels);
    const int t = phase.d.w_first + t_ * phase.d.w_step, r = phase.h.w_first + r_ * phase.h.w_step;
    filter_offset_ = u((t * p.R + r) * p.S + phase.w.w_first + s_ * phase.w.w_step) * u(p.filter_tap);
  }

  int c_, t_ = 0, r_ = 0, s_ = 0;
  unsigned needs_ = kNever, in_offset_ = 0, filter_offset_ = 0;
};

/// Bit j from `first` on: tap j of the axis lies inside for output `i`.
__device__ __forceinline__ unsigned reach_of(const IgemmAxis& axis, int i, int extent, int first) {
  unsigned reach = 0;
  int at = i * axis.stride + axis.origin;
  for (int j = 0; j < axis.taps; ++j, at += axis.tap_step)
    if (at >= 0 && at < extent) reach |= 1u << (first + j);
  return reach;
}

/// Element offset of the output's pixel m of a phase, over the channels.
template <bool kPhased>
__device__ __forceinline__ int64_t out_pixel(const IgemmShape& p, const IgemmPhase& phase, int m) {
  if constexpr (!kPhased) return m;
  const IgemmPixel at = pixel_of(phase, m);
  const int64_t row = (int64_t{at.n} * p.out_d + phase.d.out_first + at.d * phase.d.out_step) * p.out_h +
                      phase.h.out_first + at.h * phase.h.out_step;
  return row * p.out_w + phase.w.out_first + at.w * phase.w.out_step;
}

/// The stores of a warp's sums. They go through shared memory and come back as chunks along the channels, so that
/// residual and output are read and written in 16 bytes, kAhead of them in flight.
template <class Tile, bool kPhased>
__device__ __forceinline__ void store_tile(const IgemmShape& p, const IgemmPhase& phase, int block_m, int block_n,
                                           int group, const typename Tile::Sums& sum,
                                           typename Tile::T* __restrict__ out, const Epilogue& epilogue) {
  using T = typename Tile::T;
  constexpr int kLanes = Tile::kLanes, kAcross = Tile::kWarpN / kLanes, kRowsAtOnce = kWarpSize / kAcross, kAhead = 4;
  static_assert(Tile::kWarpM % (kAhead * kRowsAtOnce) == 0);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  auto& slab = shared_memory<typename Tile::Shared>().slabs[threadIdx.x / kWarpSize].at;
#pragma unroll
  for (int i = 0; i < Tile::kWarpM / 16; ++i)
#pragma unroll
    for (int j = 0; j < Tile::kWarpN / 8; ++j) {
      const float (&d)[4] = sum[i][j];
      store_pack(&slab[16 * i + lane / 4][8 * j + lane % 4 * 2], Pack<float, 2>{d[0], d[1]});
      store_pack(&slab[16 * i + lane / 4 + 8][8 * j + lane % 4 * 2], Pack<float, 2>{d[2], d[3]});
    }
  __syncwarp();
  const int column = lane % kAcross * kLanes, in_group = block_n + Tile::warp_n() + column;
  if (in_group >= p.gemm_n) return;
  const int channel = group * p.gemm_n + in_group;
  float scale[kLanes], shift[kLanes];
#pragma unroll
  for (int l = 0; l < kLanes; ++l) {
    scale[l] = epilogue.scale ? static_cast<const float*>(epilogue.scale)[channel + l] : 1;
    shift[l] = epilogue.shift ? static_cast<const float*>(epilogue.shift)[channel + l] : 0;
  }
#pragma unroll 1
  for (int first = lane / kAcross; first < Tile::kWarpM; first += kAhead * kRowsAtOnce) {
    int64_t index[kAhead];
    Pack<T, kLanes> residual[kAhead] = {};
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int m = block_m + Tile::warp_m() + first + i * kRowsAtOnce;
      index[i] = m < phase.gemm_m ? out_pixel<kPhased>(p, phase, m) * p.out_channels + channel : -1;
      if (epilogue.residual && index[i] >= 0)
        residual[i] = load_pack<kLanes>(static_cast<const T*>(epilogue.residual) + index[i]);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (index[i] < 0) continue;
      float values[kLanes];
#pragma unroll
      for (int l = 0; l < kLanes; ++l)
        values[l] = slab[first + i * kRowsAtOnce][column + l] * scale[l] + shift[l] + widen(residual[i].at[l]);
      activate_all(values, epilogue.activation);
      store_pack(out + index[i], narrow_all<T>(values));
    }
  }
}

/// dgrad reads the filter along its rows: Tile::B is transposed.
template <class Tile, bool kDgrad, int kPhases>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    igemm(const __grid_constant__ IgemmShape p, const __grid_constant__ IgemmPhases<kPhases> phases,
          const typename Tile::T* __restrict__ in, const typename Tile::T* __restrict__ filter,
          typename Tile::T* __restrict__ out, const __grid_constant__ Epilogue epilogue) {
  using T = typename Tile::T;
  constexpr int kLanes = Tile::kLanes, kAlong = Tile::kThreads / kStageChunks, kRowsA = Tile::kM / kAlong;
  static_assert(Tile::kM % kAlong == 0);
  const IgemmPhase& phase = phases.at[kPhases == 1 ? 0 : blockIdx.z];
  const int group = static_cast<int>(blockIdx.y), tiles_n = (p.gemm_n + Tile::kN - 1) / Tile::kN;
  const int block_m = static_cast<int>(blockIdx.x) / tiles_n * Tile::kM;
  const int block_n = static_cast<int>(blockIdx.x) % tiles_n * Tile::kN;
  if (block_m >= phase.gemm_m) return;

  const int chunk = static_cast<int>(threadIdx.x) % kStageChunks, along = static_cast<int>(threadIdx.x) / kStageChunks;
  TapWalk taps(p, phase, chunk * kLanes);
  unsigned in_offset[kRowsA], reach[kRowsA];
#pragma unroll
  for (int i = 0; i < kRowsA; ++i) {
    const int m = block_m + along + i * kAlong;
    in_offset[i] = reach[i] = 0;
    if (m >= phase.gemm_m) continue;
    const IgemmPixel at = pixel_of(phase, m);
    reach[i] = reach_of(phase.d, at.d, p.in_d, 0) | reach_of(phase.h, at.h, p.in_h, phase.d.taps) |
               reach_of(phase.w, at.w, p.in_w, phase.d.taps + phase.h.taps);
    const auto u = [](int value) { return static_cast<unsigned>(value); };
    in_offset[i] = ((u(at.n * p.in_d + at.d * phase.d.stride + phase.d.origin) * u(p.in_h) +
                     u(at.h * phase.h.stride + phase.h.origin)) *
                        u(p.in_w) +
                    u(at.w * phase.w.stride + phase.w.origin)) *
                       u(p.in_channels) +
                   u(group * p.channels);
  }
  // fprop: filters `along` and every kAlong-th on, the thread's chunk of each. dgrad: kRowsB of the kLanes filters that
  // the chunk stands for, 16 bytes along gemm_n of each.
  constexpr int kAcross = Tile::kN / kLanes, kRowsB = Tile::kN / kAlong;
  static_assert(Tile::kN % kAlong == 0 && kAlong % kAcross == 0);
  const int first_k = kDgrad ? along / kAcross * kRowsB : 0;
  const int first_n = block_n + (kDgrad ? along % kAcross * kLanes : along);
  const unsigned group_filters = static_cast<unsigned>(group) * static_cast<unsigned>(kDgrad ? p.channels : p.gemm_n);
  const T* filter_at = filter + int64_t{group_filters} * p.filter_row +
                       (kDgrad ? int64_t{first_k} * p.filter_row + first_n : int64_t{first_n} * p.filter_row);

  const auto load = [&](typename Tile::Stage& stage) {
#pragma unroll
    for (int i = 0; i < kRowsA; ++i) {
      const bool valid = (reach[i] & taps.needs()) == taps.needs();
      ptx::cp_async<16>(stage.a.at + Tile::A::place(along + i * kAlong, chunk),
                        in + (valid ? in_offset[i] + taps.in_offset() : 0), valid);
    }
#pragma unroll
    for (int i = 0; i < kRowsB; ++i) {
      if constexpr (kDgrad) {
        const bool valid = !taps.at_end() && first_n < p.gemm_n;
        const int64_t offset = taps.filter_offset() + int64_t{taps.channel() + i} * p.filter_row;
        ptx::cp_async<16>(stage.b.at + Tile::B::place(chunk * kLanes + first_k + i, along % kAcross),
                          valid ? filter_at + offset : filter, valid);
      } else {
        const bool valid = !taps.at_end() && first_n + i * kAlong < p.gemm_n;
        const int64_t offset = taps.filter_offset() + taps.channel() + int64_t{i} * kAlong * p.filter_row;
        ptx::cp_async<16>(stage.b.at + Tile::B::place(along + i * kAlong, chunk), valid ? filter_at + offset : filter,
                          valid);
      }
    }
    taps.next_stage<Tile::kDepth>(p, phase);
  };
  typename Tile::Sums sum;
  igemm_sums<Tile>((phase.taps * p.channels + Tile::kDepth - 1) / Tile::kDepth, load, sum);
  store_tile<Tile, kDgrad>(p, phase, block_m, block_n, group, sum, out, epilogue);
}

template <class Tile, bool kDgrad, int kPhases>
void launch_igemm(const char* name, const ConvProblem& p, const IgemmPhases<kPhases>& phases, int count,
                  const typename Tile::T* in, const typename Tile::T* filter, const ConvArgs& args) {
  const IgemmShape shape = igemm_shape(p, kDgrad);
  int most = 0;
  for (int i = 0; i < count; ++i) most = std::max(most, phases.at[i].gemm_m);
  const auto tiles = [](int extent, int tile) { return static_cast<unsigned>((int64_t{extent} + tile - 1) / tile); };
  static_assert(blocks_fit(sizeof(typename Tile::Shared), Tile::kBlocksPerSm));
  const Launch at = {.grid = {tiles(most, Tile::kM) * tiles(shape.gemm_n, Tile::kN), static_cast<unsigned>(p.groups),
                              static_cast<unsigned>(count)},
                     .block = {Tile::kThreads},
                     .shared_bytes = sizeof(typename Tile::Shared),
                     .stream = args.stream};
  launch(name, p, igemm<Tile, kDgrad, kPhases>, at, shape, phases, in, filter, static_cast<typename Tile::T*>(args.out),
         args.epilogue);
}

/// The largest tile of which there are enough blocks for a GPU of a hundred and some multiprocessors.
template <class T, bool kDgrad, int kPhases>
void launch_best(const char* name, const ConvProblem& p, const IgemmPhases<kPhases>& phases, int count, const T* in,
                 const T* filter, const ConvArgs& args) {
  constexpr int64_t kEnoughBlocks = 128;
  const int64_t gemm_n = kDgrad ? p.C_per_group() : p.K_per_group();
  int64_t gemm_m = 0;
  for (int i = 0; i < count; ++i) gemm_m += phases.at[i].gemm_m;
  const auto blocks = [&](int64_t m, int64_t n) { return (gemm_m + m - 1) / m * ((gemm_n + n - 1) / n) * p.groups; };
  if (gemm_n > 64 && blocks(128, 128) >= kEnoughBlocks)
    return launch_igemm<IgemmTile<T, 128, 128, 2, 2, 4, false, kDgrad>, kDgrad>(name, p, phases, count, in, filter,
                                                                                args);
  if (blocks(128, 64) >= kEnoughBlocks)
    return launch_igemm<IgemmTile<T, 128, 64, 2, 2, 4, false, kDgrad>, kDgrad>(name, p, phases, count, in, filter,
                                                                               args);
  launch_igemm<IgemmTile<T, 64, 64, 2, 2, 4, false, kDgrad>, kDgrad>(name, p, phases, count, in, filter, args);
}

template <class T>
void run_igemm_fprop(const char* name, const ConvProblem& p, const ConvArgs& args) {
  if (p.y_elements() == 0) return;
  const T* filter = krsc_of<T>(name, p, args);
  launch_best<T, false, 1>(name, p, {{fprop_phase(p)}}, 1, static_cast<const T*>(args.x), filter, args);
}

/// Launches of up to kMaxPhases phases, in each those of most taps first: the grid ends on short blocks.
template <class T>
void run_igemm_dgrad(const char* name, const ConvProblem& p, const ConvArgs& args) {
  if (p.x_elements() == 0) return;
  const T* filter = krsc_of<T>(name, p, args);
  IgemmPhases<kMaxPhases> phases = {};
  int count = 0;
  const int64_t all = DgradPhases(p).count();
  for (int64_t i = 0; i < all; ++i) {
    phases.at[count] = dgrad_phase(p, i);
    if (phases.at[count].gemm_m > 0) ++count;
    if (count == 0 || (count < kMaxPhases && i + 1 < all)) continue;
    std::stable_sort(phases.at, phases.at + count,
                     [](const IgemmPhase& a, const IgemmPhase& b) { return a.taps > b.taps; });
    launch_best<T, true, kMaxPhases>(name, p, phases, count, static_cast<const T*>(args.dy), filter, args);
    count = 0;
  }
}

}  // namespace
}  // namespace fastconv
