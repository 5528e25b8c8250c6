// Neighbouring elements moved in one instruction.
#pragma once

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

template <int N, class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

}  // namespace fastconv
