// What the implicit-GEMM kernels of fprop and dgrad are told, made on the host.
//
// Both are a gather: out[n,i] = sum over taps j of in[n, i * stride + origin + j * tap_step] * w[w_first + j * w_step],
// for each axis. fprop is that with origin = -pad and tap_step = dilation. dgrad of stride s falls into s phases an
// axis, the pixels i * s + a of dx: only taps t with (a + pad - t * dilation) % s = 0 reach them, every s / gcd(s,
// dilation)th, and they read dy at i + (a + pad - t * dilation) / s. Each tap reaches one phase: no product with an
// inserted zero.
#pragma once

#include <algorithm>
#include <numeric>

#include "conv/cuda/shape.h"
#include "core/cuda/fast_divmod.h"
#include "core/cuda/launch.h"
#include "core/cuda/number.h"
#include "core/cuda/vector.h"

namespace fastconv {
namespace {

/// One axis of one phase.
struct IgemmAxis {
  int out, out_first, out_step;  // output i is pixel out_first + i * out_step of `out`
  int stride, origin;            // and reads input i * stride + origin + j * tap_step
  int taps, tap_step;
  int w_first, w_step;  // with tap w_first + j * w_step of the filter
};

struct IgemmPhase {
  IgemmAxis d, h, w;
  FastDivmod by_d, by_h, by_w;  // by the outputs of each axis
  int gemm_m, taps;
};

/// The output's pixel m of a phase: its image and its place on each axis.
struct IgemmPixel {
  int n, d, h, w;
};
__device__ __forceinline__ IgemmPixel pixel_of(const IgemmPhase& phase, int m) {
  IgemmPixel at;
  at.w = phase.by_w.divmod(m, &at.h);
  at.h = phase.by_h.divmod(at.h, &at.d);
  at.d = phase.by_d.divmod(at.d, &at.n);
  return at;
}

struct IgemmShape {
  int in_d, in_h, in_w, in_channels;
  int out_d, out_h, out_w, out_channels;
  int gemm_n, channels;        // of a group: the output's channels, the input's
  int R, S;                    // of the filter, which lies as K, T, R, S, C/groups
  int filter_row, filter_tap;  // elements from k to k + 1, and from tap to tap
};

/// So many phases a launch: those of stride 2 in three axes.
constexpr int kMaxPhases = 8;
template <int kCount>
struct IgemmPhases {
  IgemmPhase at[kCount];
};

inline IgemmAxis fprop_axis(int64_t out, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  return {i(out), 0, 1, i(stride), i(-pad), i(taps), i(dilation), 0, 1};
}

/// Phase `a` of an axis of `in` pixels of dx.
inline IgemmAxis dgrad_axis(int64_t a, int64_t in, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  int64_t first = 0;
  while (first < taps && (a + pad - first * dilation) % stride != 0) ++first;
  const int64_t divisor = std::gcd(stride, dilation), step = stride / divisor;
  const int64_t count = first < taps ? (taps - 1 - first) / step + 1 : 0;
  return {.out = i(in > a ? (in - a - 1) / stride + 1 : 0),
          .out_first = i(a),
          .out_step = i(stride),
          .stride = 1,
          .origin = count ? i((a + pad - first * dilation) / stride) : 0,
          .taps = i(count),
          .tap_step = i(-(dilation / divisor)),
          .w_first = i(first),
          .w_step = i(step)};
}

inline IgemmPhase phase_of(const IgemmAxis& d, const IgemmAxis& h, const IgemmAxis& w, int64_t N) {
  const auto by = [](const IgemmAxis& axis) { return FastDivmod(std::max(axis.out, 1)); };
  return {d, h, w, by(d), by(h), by(w), static_cast<int>(N * d.out * h.out * w.out), d.taps * h.taps * w.taps};
}

inline IgemmPhase fprop_phase(const ConvProblem& p) {
  return phase_of(fprop_axis(p.Z, p.T, p.stride_d, p.pad_d, p.dilation_d),
                  fprop_axis(p.P, p.R, p.stride_h, p.pad_h, p.dilation_h),
                  fprop_axis(p.Q, p.S, p.stride_w, p.pad_w, p.dilation_w), p.N);
}

/// The phases that have pixels, which a stride beyond the image leaves most without.
struct DgradPhases {
  int64_t d, h, w;
  explicit DgradPhases(const ConvProblem& p)
      : d(std::min(p.stride_d, p.D)), h(std::min(p.stride_h, p.H)), w(std::min(p.stride_w, p.W)) {}
  int64_t count() const { return d * h * w; }
};

inline IgemmPhase dgrad_phase(const ConvProblem& p, int64_t index) {
  const DgradPhases phases(p);
  return phase_of(dgrad_axis(index / phases.w / phases.h, p.D, p.T, p.stride_d, p.pad_d, p.dilation_d),
                  dgrad_axis(index / phases.w % phases.h, p.H, p.R, p.stride_h, p.pad_h, p.dilation_h),
                  dgrad_axis(index % phases.w, p.W, p.S, p.stride_w, p.pad_w, p.dilation_w), p.N);
}

inline IgemmShape igemm_shape(const ConvProblem& p, bool dgrad) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  IgemmShape shape = {i(p.D),
                      i(p.H),
                      i(p.W),
                      i(p.C),
                      i(p.Z),
                      i(p.P),
                      i(p.Q),
                      i(p.K),
                      i(p.K_per_group()),
                      i(p.C_per_group()),
                      i(p.R),
                      i(p.S),
                      i(p.T * p.R * p.S * p.C_per_group()),
                      i(p.C_per_group())};
  if (dgrad) {
    std::swap(shape.in_d, shape.out_d), std::swap(shape.in_h, shape.out_h), std::swap(shape.in_w, shape.out_w);
    std::swap(shape.in_channels, shape.out_channels), std::swap(shape.channels, shape.gemm_n);
  }
  return shape;
}

inline const char* igemm_why_not(const ConvProblem& p) {
  if (const char* reason = too_large(p)) return reason;
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  const int64_t lanes = p.dtype == DType::kFloat32 ? kPackLanes<float> : kPackLanes<Float16>;
  if (p.C_per_group() % lanes != 0 || p.K_per_group() % lanes != 0)
    return lanes == 8 ? "takes input and output channels a group in multiples of 8"
                      : "takes input and output channels a group in multiples of 4";
  if (p.T + p.R + p.S > 31) return "takes filters of T + R + S < 32";
  if (p.groups > kMaxGridYZ) return "takes up to 65535 groups";
  return nullptr;
}
inline const char* igemm_half_why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat16 && p.dtype != DType::kBFloat16) return "takes float16 and bfloat16 only";
  return igemm_why_not(p);
}
inline const char* igemm_tf32_why_not(const ConvProblem& p) {
  return p.dtype == DType::kFloat32 ? igemm_why_not(p) : "takes float32 only";
}

/// A launch takes kMaxPhases of them, and each is a GEMM of its own: many of few pixels are others' business.
inline const char* igemm_phases_why_not(const ConvProblem& p) {
  return DgradPhases(p).count() > 64 * kMaxPhases ? "takes strides that cut dx into up to 512 phases" : nullptr;
}
inline const char* igemm_half_dgrad_why_not(const ConvProblem& p) {
  const char* reason = igemm_half_why_not(p);
  return reason ? reason : igemm_phases_why_not(p);
}
inline const char* igemm_tf32_dgrad_why_not(const ConvProblem& p) {
  const char* reason = igemm_tf32_why_not(p);
  return reason ? reason : igemm_phases_why_not(p);
}

/// Whether the filter lies as K, T, R, S, C/groups, in chunks of 16 bytes.
inline bool is_krsc(const Filter& w, const ConvProblem& p) {
  const int64_t C = p.C_per_group(), row = p.T * p.R * p.S * C;
  return reinterpret_cast<uintptr_t>(w.data) % 16 == 0 && w.stride_c == 1 && (p.S == 1 || w.stride_s == C) &&
         (p.R == 1 || w.stride_r == p.S * C) && (p.T == 1 || w.stride_t == p.R * p.S * C) &&
         (p.K_per_group() == 1 || w.stride_k == row) && (p.groups == 1 || w.stride_g == p.K_per_group() * row);
}

constexpr int kKrscThreads = 256;

/// One block a row of the filter, element (tap, c) from any strides: reads that jump are met again in the cache.
template <class T>
__global__ void __launch_bounds__(kKrscThreads) to_krsc(ConvShape p, Filter w, T* __restrict__ krsc) {
  const int k = static_cast<int>(blockIdx.x), row = p.T * p.R * p.S * p.C_per_group;
  for (int i = static_cast<int>(threadIdx.x); i < row; i += kKrscThreads) {
    const int c = i % p.C_per_group, tap = i / p.C_per_group;
    krsc[int64_t{k} * row + i] = static_cast<const T*>(
        w.data)[w.offset(k / p.K_per_group, k % p.K_per_group, c, tap / p.S / p.R, tap / p.S % p.R, tap % p.S)];
  }
}

constexpr int kTurnTile = 32;

/// The same where neighbours are neighbours in k, as in the adjoint of a filter that is channels last: a block turns 32
/// x 32 elements (k, c) of one tap and group in shared memory, so that both sides are read and written along their
/// rows.
template <class T>
__global__ void __launch_bounds__(kKrscThreads) turn_to_krsc(ConvShape p, Filter w, T* __restrict__ krsc) {
  struct Tile {
    T at[kTurnTile][kTurnTile + 1];
  };
  auto& tile = shared_memory<Tile>();
  const int lane = static_cast<int>(threadIdx.x) % kTurnTile, first = static_cast<int>(threadIdx.x) / kTurnTile;
  const int k0 = static_cast<int>(blockIdx.x) * kTurnTile, c0 = static_cast<int>(blockIdx.y) * kTurnTile;
  const int taps = p.T * p.R * p.S, g = static_cast<int>(blockIdx.z) / taps, tap = static_cast<int>(blockIdx.z) % taps;
  const T* from = static_cast<const T*>(w.data) + w.offset(g, k0, c0, tap / p.S / p.R, tap / p.S % p.R, tap % p.S);
  T* to = krsc + (int64_t{g * p.K_per_group + k0} * taps + tap) * p.C_per_group + c0;
#pragma unroll
  for (int c = first; c < kTurnTile; c += kKrscThreads / kTurnTile)
    if (c0 + c < p.C_per_group && k0 + lane < p.K_per_group) tile.at[c][lane] = from[lane + c * w.stride_c];
  __syncthreads();
#pragma unroll
  for (int k = first; k < kTurnTile; k += kKrscThreads / kTurnTile)
    if (k0 + k < p.K_per_group && c0 + lane < p.C_per_group)
      to[int64_t{k} * taps * p.C_per_group + lane] = tile.at[lane][k];
}

/// The filter as K, T, R, S, C/groups: itself, or rearranged into the workspace, which is first.
template <class T>
const T* krsc_of(const char* name, const ConvProblem& p, const ConvArgs& args) {
  if (is_krsc(args.w, p)) return static_cast<const T*>(args.w.data);
  T* krsc = static_cast<T*>(args.workspace);
  const auto tiles = [](int64_t extent) { return static_cast<unsigned>((extent + kTurnTile - 1) / kTurnTile); };
  const Extents3 grid = {tiles(p.K_per_group()), tiles(p.C_per_group()),
                         static_cast<unsigned>(p.groups * p.T * p.R * p.S)};
  if (args.w.stride_k == 1 && std::max(grid.y, grid.z) <= kMaxGridYZ)
    launch(name, p, turn_to_krsc<T>,
           {.grid = grid,
            .block = {kKrscThreads},
            .shared_bytes = sizeof(T) * kTurnTile * (kTurnTile + 1),
            .stream = args.stream},
           shape_of(p), args.w, krsc);
  else
    launch(name, p, to_krsc<T>, {.grid = {static_cast<unsigned>(p.K)}, .block = {kKrscThreads}, .stream = args.stream},
           shape_of(p), args.w, krsc);
  return krsc;
}

inline size_t krsc_bytes(const ConvProblem& p) { return static_cast<size_t>(p.w_elements() * element_size(p.dtype)); }

}  // namespace
}  // namespace fastconv
