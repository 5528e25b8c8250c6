// Neighbouring elements moved in one instruction.
#pragma once

#include <cstring>

#include "core/cuda/device.h"

namespace fastconv {

/// N elements of T, aligned to their size: a copy of one is one load or store of up to 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};

/// As many of T as 16 bytes hold.
template <class T>
constexpr int kPackLanes = 16 / static_cast<int>(sizeof(T));

template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

/// The bytes at `from` as `Words`, whose size they are aligned to: one load.
template <class Words, class T>
__device__ __forceinline__ Words load_as(const T* from) {
#if defined(__CUDA_ARCH__)
  return *reinterpret_cast<const Words*>(from);
#else
  Words out;
  std::memcpy(&out, from, sizeof(out));  // words are no alias of T
  return out;
#endif
}

template <int N, class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

}  // namespace fastconv
