// The second stage of a wgrad whose sum is split among blocks: dw = the sum of the splits' arrays, which lie in the
// workspace as [split][quad][4].
//
// dw is small and its splits are many: one thread a quad would be a few blocks that wait for one load after another.
// So `ways` threads of a block share a quad and add every ways-th split each, 128 bytes at once; then one of them
// adds their sums. How many they are, and so the order of the sum, depends on the problem alone.
//
// A block is 256 threads, [way][quad]: at least 4 quads, 64 neighbouring bytes. 4 KB of shared memory, float64: 8 KB.
#pragma once

#include <algorithm>

#include "conv/cuda/shape.h"
#include "core/cuda/launch.h"
#include "core/cuda/number.h"
#include "core/cuda/simt_gemm.h"

namespace fastconv {
namespace {

constexpr int kAddThreads = 256;
constexpr int64_t kMostWays = 64;

/// Of the splits' quads at `from`, which lie `pitch` apart, every `ways`-th from `way` on.
template <class A>
__device__ __forceinline__ Pack<A, 4> sum_of_way(const A* __restrict__ from, int64_t pitch, int splits, int way,
                                                 int ways) {
  constexpr int kAtOnce = 32 / static_cast<int>(sizeof(A));
  Pack<A, 4> sum = {};
#pragma unroll 1
  for (int split = way; split < splits; split += kAtOnce * ways) {
    Pack<A, 4> terms[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = split + i * ways;  // behind the last, the first again: a load under a condition would wait
      terms[i] = simt::load_quad(from + (at < splits ? at : split) * pitch);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      if (split + i * ways < splits)
#pragma unroll
        for (int element = 0; element < 4; ++element) sum.at[element] += terms[i].at[element];
  }
  return sum;
}

/// `write(quad, sum)` writes four elements to dw; `Write::T` is dw's type. Four blocks a multiprocessor: with the
/// registers of eight, nvcc would add the first terms before it loads the last.
template <class Write>
__global__ void __launch_bounds__(kAddThreads, 4)
    add_splits(const Accumulator<typename Write::T>* __restrict__ partial, int splits, int64_t quads,
               const __grid_constant__ Write write) {
  using A = Accumulator<typename Write::T>;
  auto* const sums = &shared_memory<Pack<A, 4>>();
  const int quads_here = static_cast<int>(blockDim.x), ways = static_cast<int>(blockDim.y);
  const int thread = static_cast<int>(threadIdx.y) * quads_here + static_cast<int>(threadIdx.x);
  const int64_t quad = int64_t{blockIdx.x} * quads_here + threadIdx.x;
  Pack<A, 4> sum = {};
  if (quad < quads) sum = sum_of_way(partial + quad * 4, quads * 4, splits, static_cast<int>(threadIdx.y), ways);
  sums[thread] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || quad >= quads) return;
#pragma unroll 4
  for (int other = thread + quads_here; other < kAddThreads; other += quads_here)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.at[i] += sums[other].at[i];
  write(static_cast<int>(quad), sum);
}

/// Assumes: fewer than 2^31 quads, as dw has elements.
template <class Write>
void launch_add_splits(const char* name, const ConvProblem& p, const ConvArgs& args, int splits, int64_t quads,
                       const Write& write) {
  using A = Accumulator<typename Write::T>;
  // Whose 8 MB on the way are more than the fastest memory needs.
  constexpr int64_t kEnoughThreads = 1 << 16;
  int64_t ways = 1;
  while (2 * ways <= std::min<int64_t>(splits, kMostWays) && quads * ways < kEnoughThreads) ways *= 2;
  const int64_t quads_here = kAddThreads / ways;
  launch(name, p, add_splits<Write>,
         {.grid = {static_cast<unsigned>((quads + quads_here - 1) / quads_here)},
          .block = {static_cast<unsigned>(quads_here), static_cast<unsigned>(ways)},
          .shared_bytes = kAddThreads * sizeof(Pack<A, 4>),
          .stream = args.stream},
         static_cast<const A*>(args.workspace), splits, quads, write);
}

/// Writes quads of a matrix [K][T R S C/groups]: four channels of a tap, as channels a group come in multiples of 4.
template <class Element>
struct WriteChannels {
  using T = Element;
  ConvShape p;
  Filter dw;

  __device__ __forceinline__ void operator()(int quad, const Pack<Accumulator<T>, 4>& sum) const {
    const int row = p.T * p.R * p.S * p.C_per_group / 4, k = quad / row, in_row = quad % row * 4;
    const int c = in_row % p.C_per_group, tap = in_row / p.C_per_group;
    T* const to = static_cast<T*>(dw.data) +
                  dw.offset(k / p.K_per_group, k % p.K_per_group, c, tap / p.S / p.R, tap / p.S % p.R, tap % p.S);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i * dw.stride_c] = narrow<T>(sum.at[i]);
  }
};

}  // namespace
}  // namespace fastconv
