// The CUDA language's names for the host compiler: what a kernel's source may say outside ptx.h.
#pragma once

#include <cmath>
#include <cstring>

#include "core/cuda_on_cpu/scheduler.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::fastconv::cuda_on_cpu::current().index)
#define blockIdx (::fastconv::cuda_on_cpu::current().block->index)
#define blockDim (::fastconv::cuda_on_cpu::grid().block)
#define gridDim (::fastconv::cuda_on_cpu::grid().grid)

namespace fastconv {

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_cpu::wait_at_barrier(0, 0, {"__syncthreads", file, line});
}

inline void __syncwarp(unsigned mask = cuda_on_cpu::kFull, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  cuda_on_cpu::in_warp(mask, nullptr, [](void* const*, unsigned) {}, {"__syncwarp", file, line});
}

namespace cuda_on_cpu {

template <class T>
struct Shuffle {
  T value, result;
  unsigned source;
};

/// Every lane of `mask` gets the value of its `source`; that of a lane outside the mask is undefined: here NaN.
template <class T>
T shuffle(unsigned mask, T value, unsigned source, const Where& where) {
  Shuffle<T> mine{value, value, source};
  in_warp(
      mask, &mine,
      [](void* const* slots, unsigned lanes) {
        for (unsigned lane = 0; lane < kWarp; ++lane) {
          if (!(lanes >> lane & 1)) continue;
          auto* to = static_cast<Shuffle<T>*>(slots[lane]);
          if (lanes >> to->source & 1) to->result = static_cast<Shuffle<T>*>(slots[to->source])->value;
          else std::memset(static_cast<void*>(&to->result), 0xff, sizeof(T));
        }
      },
      where);
  return mine.result;
}

}  // namespace cuda_on_cpu

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  const unsigned w = static_cast<unsigned>(width), first = cuda_on_cpu::current().lane() / w * w;
  return cuda_on_cpu::shuffle(mask, value, first + static_cast<unsigned>(lane) % w, {"__shfl_sync", file, line});
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  const unsigned self = cuda_on_cpu::current().lane(), to = self ^ static_cast<unsigned>(bits);
  const bool inside = to / static_cast<unsigned>(width) <= self / static_cast<unsigned>(width);
  return cuda_on_cpu::shuffle(mask, value, inside ? to : self, {"__shfl_xor_sync", file, line});
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
  const unsigned self = cuda_on_cpu::current().lane(), w = static_cast<unsigned>(width);
  const bool inside = self % w + by < w;
  return cuda_on_cpu::shuffle(mask, value, inside ? self + by : self, {"__shfl_down_sync", file, line});
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE()) {
  const unsigned self = cuda_on_cpu::current().lane(), w = static_cast<unsigned>(width);
  const bool inside = self % w >= by;
  return cuda_on_cpu::shuffle(mask, value, inside ? self - by : self, {"__shfl_up_sync", file, line});
}

inline unsigned __ballot_sync(unsigned mask, bool predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  struct Vote {
    bool mine;
    unsigned result;
  } vote{predicate, 0};
  cuda_on_cpu::in_warp(mask, &vote,
                       [](void* const* slots, unsigned lanes) {
                         unsigned result = 0;
                         for (unsigned lane = 0; lane < cuda_on_cpu::kWarp; ++lane)
                           if ((lanes >> lane & 1) && static_cast<Vote*>(slots[lane])->mine) result |= 1u << lane;
                         for (unsigned lane = 0; lane < cuda_on_cpu::kWarp; ++lane)
                           if (lanes >> lane & 1) static_cast<Vote*>(slots[lane])->result = result;
                       },
                       {"__ballot_sync", file, line});
  return vote.result;
}

inline bool __any_sync(unsigned mask, bool predicate, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline bool __all_sync(unsigned mask, bool predicate, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}

}  // namespace fastconv
