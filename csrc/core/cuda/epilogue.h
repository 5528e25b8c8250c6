// The epilogue on a GPU: act(scale[channel] * sum + shift[channel] + residual), in the accumulator's type.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/cuda/number.h"
#include "core/cuda/ptx_mma.h"
#include "core/cuda/vector.h"
#include "core/epilogue.h"

namespace fastconv {

template <class A>
__device__ __forceinline__ A activate(A x, Activation activation) {
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return x < A(0) ? A(0) : x;
    case Activation::kRelu6: return x < A(0) ? A(0) : x > A(6) ? A(6) : x;
    case Activation::kHardSwish: {
      const A gate = x + A(3) < A(0) ? A(0) : x + A(3) > A(6) ? A(6) : x + A(3);
      return x * gate / A(6);
    }
    case Activation::kSilu: return x / (A(1) + exp(-x));
    case Activation::kSigmoid: return A(1) / (A(1) + exp(-x));
  }
  return x;
}

/// `values` activated, with one test for all of them in the usual cases.
template <int kLanes>
__device__ __forceinline__ void activate_all(float (&values)[kLanes], Activation activation) {
  if (activation == Activation::kNone) return;
  if (activation == Activation::kRelu) {
#pragma unroll
    for (float& value : values) value = activate(value, Activation::kRelu);
  } else {
#pragma unroll
    for (float& value : values) value = activate(value, activation);
  }
}

/// `values` rounded to T, two at a time where T has 16 bits.
template <class T, int kLanes>
__device__ __forceinline__ Pack<T, kLanes> narrow_all(const float (&values)[kLanes]) {
  Pack<T, kLanes> pack;
  if constexpr (std::is_same_v<T, float>) {
    std::memcpy(&pack, values, sizeof(pack));
  } else {
    uint32_t bits[kLanes / 2];
#pragma unroll
    for (int i = 0; i < kLanes / 2; ++i) bits[i] = ptx::pack2<T>(values[2 * i], values[2 * i + 1]);
    std::memcpy(static_cast<void*>(&pack), bits, sizeof(bits));
  }
  return pack;
}

/// `sum` finished for output element `index` (an offset that the residual shares) of channel `channel`.
template <class T>
__device__ __forceinline__ Accumulator<T> finish(Accumulator<T> sum, const Epilogue& e, int channel, int64_t index) {
  using A = Accumulator<T>;
  if (e.scale) sum *= static_cast<const A*>(e.scale)[channel];
  if (e.shift) sum += static_cast<const A*>(e.shift)[channel];
  if (e.residual) sum += widen(static_cast<const T*>(e.residual)[index]);
  return activate(sum, e.activation);
}

}  // namespace fastconv
