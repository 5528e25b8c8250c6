// Pooling of images that are one window: after `squeezed`, W inputs a channel, in one row.
//
// A block is [units] x [ways] threads. A unit is kLanes channels (NHWC) or a plane (NCHW); its ways take every ways-th
// chunk of its inputs, kLanes elements each, and then join in a tree in shared memory. NHWC: neighbouring threads take
// neighbouring channels; NCHW: neighbouring chunks. Where units are few, the inputs are split among blocks too, and a
// second kernel joins their results. How it is cut, and so the order of every sum, depends on the problem alone.
//
// Floor: x once. Shared memory: kLanes * 256 values and places, 16 KB.
#pragma once

#include "core/cuda/launch.h"
#include "pool/cuda/reduce.h"
#include "pool/cuda/shape.h"

namespace fastconv {
namespace {

constexpr int kGlobalThreads = 256;
/// Two blocks for every multiprocessor of the largest GPU.
constexpr int64_t kEnoughBlocks = 2 * 132;
/// Chunks that a thread should have before its unit gets more threads: that many are loaded at once.
constexpr int kAtOnce = 4;

struct Global {
  int C, units, ways, units_here, ways_log, units_log, chunks, chunks_a_split, splits;
  int unit_pitch, chunk_pitch;  // NHWC: of images and pixels; NCHW: of planes and chunks
  FastDivmod packs;             // NHWC: of an image
  int divisor;
  bool index_in_window;

  int64_t outputs;
};

inline const char* why_not_global(const PoolProblem& p, Layout layout) {
  if (const char* reason = why_not_on(p, layout)) return reason;
  if (p.Z != 1 || p.P != 1 || p.Q != 1 || p.D != 1 || p.H != 1 || p.S != p.W || p.pad_w || p.adaptive)
    return "takes images that are one window";
  if (p.W == 0) return "takes images of at least one pixel";
  if (p.W > kMostElements / 2 || p.y_elements() > kMostElements / 2) return "takes at most 2^30 pixels and outputs";
  return nullptr;
}

template <int kLanes, bool kChannelsLast>
Global global_of(const PoolProblem& p) {
  const auto divide_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t packs = kChannelsLast ? divide_up(p.C, kLanes) : p.C, units = p.N * packs;
  const int64_t chunks = kChannelsLast ? p.W : p.W / kLanes;
  const int64_t most_ways = kChannelsLast ? (kLanes == 1 ? 8 : 32) : kGlobalThreads;
  int64_t ways = kChannelsLast ? 1 : std::min<int64_t>(8, kGlobalThreads);
  const auto blocks = [&] { return divide_up(units * ways, kGlobalThreads); };
  while (2 * ways <= most_ways && 2 * ways <= chunks && (ways * kAtOnce < chunks || blocks() < kEnoughBlocks))
    ways *= 2;
  const int64_t most_splits = std::max<int64_t>(chunks / (ways * 2 * kAtOnce), 1);
  const int64_t wanted = std::clamp<int64_t>(kEnoughBlocks / std::max<int64_t>(blocks(), 1), 1, most_splits);
  const int64_t chunks_a_split = divide_up(chunks, wanted);
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  Global g = {};
  g.C = i(p.C), g.units = i(units), g.ways = i(ways), g.units_here = i(kGlobalThreads / ways);
  while (1 << g.ways_log < g.ways) ++g.ways_log;
  while (1 << g.units_log < g.units_here) ++g.units_log;
  g.chunks = i(chunks);
  g.chunks_a_split = i(chunks_a_split), g.splits = i(divide_up(chunks, chunks_a_split));
  g.unit_pitch = i(kChannelsLast ? p.W * p.C : p.W), g.chunk_pitch = i(kChannelsLast ? p.C : kLanes);
  g.packs = FastDivmod(i(std::max<int64_t>(packs, 1)));
  g.divisor = i(p.divisor ? p.divisor : p.W);
  g.index_in_window = p.index == IndexType::kUInt8;
  g.outputs = p.N * p.C;
  return g;
}

/// A tree over the ways, whose first gets what all of them saw. All threads call it.
template <class Reduction>
__device__ __forceinline__ void join_ways(Reduction& all, int way, int ways, int pitch) {
  using A = typename Reduction::A;
  auto* const values = &shared_memory<A>();
  auto* const places = reinterpret_cast<int*>(values + Reduction::kLanes * kGlobalThreads);
  const int thread = static_cast<int>(threadIdx.x);
  for (int half = ways / 2; half > 0; half /= 2) {
    if (way >= half && way < 2 * half) {
#pragma unroll
      for (int lane = 0; lane < Reduction::kLanes; ++lane) {
        values[lane * kGlobalThreads + thread] = all.value[lane];
        if constexpr (Reduction::kIndexed) places[lane * kGlobalThreads + thread] = all.place[lane];
      }
    }
    __syncthreads();
    if (way < half) {
#pragma unroll
      for (int lane = 0; lane < Reduction::kLanes; ++lane) {
        const int other = lane * kGlobalThreads + thread + half * pitch;
        all.merge_lane(lane, values[other], Reduction::kIndexed ? places[other] : 0);
      }
    }
  }
}

/// Of a thread's chunks [begin, end), every `step`-th; element `lane` of chunk i is at place i, or i * kLanes + lane.
template <class T, bool kChannelsLast, class Reduction>
__device__ __forceinline__ void see_chunks(const T* __restrict__ x, int pitch, int begin, int end, int step,
                                           Reduction& all) {
  constexpr int kLanes = Reduction::kLanes;
  if (begin < end) all.begin(kChannelsLast ? begin : begin * kLanes, kChannelsLast ? 0 : 1);
#pragma unroll 1
  for (int i = begin; i < end; i += kAtOnce * step) {
    Held<T, kLanes> held[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int at = i + j * step;  // behind the last, the first again: a load under a condition would wait
      held[j] = load_inside<kLanes>(x, (at < end ? at : i) * pitch, true);
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int at = i + j * step;
      if (at < end) see<T, kChannelsLast ? 0 : 1>(all, held[j], kChannelsLast ? at : at * kLanes);
    }
  }
}

/// `one` becomes what all lanes saw together.
template <class Reduction, class One>
__device__ __forceinline__ void join_lanes(const Reduction& all, One& one) {
  one.begin(kNowhere);
#pragma unroll
  for (int lane = 0; lane < Reduction::kLanes; ++lane) {
    if constexpr (Reduction::kIndexed) one.merge_lane(0, all.value[lane], all.place[lane]);
    else one.merge_lane(0, all.value[lane], 0);
  }
}

/// Where blocks share a unit, each leaves its part in the workspace: [split][output] values, then places.
template <class A>
struct Parts {
  A* values;
  int* places;
};

template <class A>
Parts<A> parts_in(const Global& g, void* workspace) {
  A* const values = static_cast<A*>(workspace);
  return {values, reinterpret_cast<int*>(values + g.splits * g.outputs)};
}

template <class T, bool kChannelsLast, class Reduction, class One>
__global__ void __launch_bounds__(kGlobalThreads, 4)
    fprop_global(const __grid_constant__ Global g, const T* __restrict__ x, T* __restrict__ y,
                 void* __restrict__ indices, const __grid_constant__ Epilogue epilogue, Parts<typename One::A> parts) {
  const int thread = static_cast<int>(threadIdx.x);
  // Both are powers of two.
  const int way = kChannelsLast ? thread >> g.units_log : thread & (g.ways - 1);
  const int unit_here = kChannelsLast ? thread & (g.units_here - 1) : thread >> g.ways_log;
  const int unit = static_cast<int>(blockIdx.x) * g.units_here + unit_here, split = static_cast<int>(blockIdx.y);
  int image = unit, c = 0;
  if constexpr (kChannelsLast) c = g.packs.divmod(unit, &image) * Reduction::kLanes;
  Reduction all;
  all.begin(kNowhere);
  if (unit < g.units) {
    const int begin = split * g.chunks_a_split, end = begin + g.chunks_a_split;
    see_chunks<T, kChannelsLast>(x + image * g.unit_pitch + c, g.chunk_pitch, begin + way,
                                 end < g.chunks ? end : g.chunks, g.ways, all);
  }
  One one;
  if constexpr (kChannelsLast) one = all;
  else join_lanes(all, one);
  join_ways(one, way, g.ways, kChannelsLast ? g.units_here : 1);
  if (way != 0 || unit >= g.units) return;
  const int output = kChannelsLast ? image * g.C + c : unit;
  if (g.splits == 1) {
    divide<T>(one, static_cast<typename One::A>(g.divisor));
    finish_lanes<T>(one, epilogue, kChannelsLast ? c : g.packs.divmod(unit, &image), output, y, indices,
                    g.index_in_window);
    return;
  }
  const int64_t at = split * g.outputs + output;
#pragma unroll
  for (int lane = 0; lane < One::kLanes; ++lane) {
    parts.values[at + lane] = one.value[lane];
    if constexpr (One::kIndexed) parts.places[at + lane] = one.place[lane];
  }
}

/// The second stage: a thread an output.
template <class T, class One>
__global__ void __launch_bounds__(kGlobalThreads)
    fprop_global_join(const __grid_constant__ Global g, Parts<typename One::A> parts, T* __restrict__ y,
                      void* __restrict__ indices, const __grid_constant__ Epilogue epilogue) {
  const int64_t output = int64_t{blockIdx.x} * kGlobalThreads + threadIdx.x;
  if (output >= g.outputs) return;
  One one;
  one.begin(kNowhere);
#pragma unroll 4
  for (int split = 0; split < g.splits; ++split) {
    const int64_t at = split * g.outputs + output;
    one.merge_lane(0, parts.values[at], One::kIndexed ? parts.places[at] : 0);
  }
  divide<T>(one, static_cast<typename One::A>(g.divisor));
  finish_lanes<T>(one, epilogue, static_cast<int>(output % g.C), static_cast<int>(output), y, indices,
                  g.index_in_window);
}

template <class T, int kLanes, bool kChannelsLast>
void launch_global(const char* name, const PoolProblem& p, const PoolArgs& args) {
  using A = Accumulator<T>;
  const Global g = global_of<kLanes, kChannelsLast>(p);
  with_reduction<T, kLanes>(p, args, [&](auto reduction) {
    using Reduction = decltype(reduction);
    using Single = typename Reduction::template Of<1>;
    using One = std::conditional_t<kChannelsLast, Reduction, Single>;
    const Parts<A> parts = parts_in<A>(g, args.workspace);
    T* const y = static_cast<T*>(args.out);
    launch(
        name, p, fprop_global<T, kChannelsLast, Reduction, One>,
        {.grid = {static_cast<unsigned>((g.units + g.units_here - 1) / g.units_here), static_cast<unsigned>(g.splits)},
         .block = {kGlobalThreads},
         .shared_bytes = One::kLanes * kGlobalThreads * (sizeof(A) + sizeof(int)),
         .stream = args.stream},
        g, static_cast<const T*>(args.x), y, args.index, args.epilogue, parts);
    if (g.splits > 1)
      launch(name, p, fprop_global_join<T, Single>,
             {.grid = {static_cast<unsigned>((g.outputs + kGlobalThreads - 1) / kGlobalThreads)},
              .block = {kGlobalThreads},
              .stream = args.stream},
             g, parts, y, args.index, args.epilogue);
  });
}

template <bool kChannelsLast>
void run_global(const char* name, const PoolProblem& p, const PoolArgs& args) {
  with_packs(p, kChannelsLast ? p.C : p.W,
             [&](auto zero, auto lanes) { launch_global<decltype(zero), lanes, kChannelsLast>(name, p, args); });
}

template <bool kChannelsLast>
size_t global_workspace(const PoolProblem& p) {
  size_t bytes = 0;
  with_packs(p, kChannelsLast ? p.C : p.W, [&](auto zero, auto lanes) {
    const Global g = global_of<lanes, kChannelsLast>(p);
    const size_t parts = static_cast<size_t>(g.splits * g.outputs);
    if (g.splits > 1) bytes = parts * (sizeof(Accumulator<decltype(zero)>) + sizeof(int));
  });
  return bytes;
}

}  // namespace
}  // namespace fastconv
