// What kernels compute with: elements as stored, their accumulator, and the way between.
#pragma once

#include <type_traits>

#include "core/cuda/device.h"
#include "core/half.h"
#include "core/types.h"

namespace fastconv {

/// Sums of T are kept in this: double for double, else float.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
__device__ __forceinline__ Accumulator<T> widen(T x) {
  if constexpr (std::is_same_v<T, double>) return x;
  else return to_float(x);
}

/// Rounds to nearest, ties to even.
template <class T>
__device__ __forceinline__ T narrow(Accumulator<T> x) {
  if constexpr (std::is_same_v<T, double>) {
    return x;
  } else {
    T out;
    from_float(x, &out);
    return out;
  }
}

/// Calls `body(T{})` with the element type of `dtype`, which is no integer.
template <class Body>
void with_element(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kFloat32: return body(float{});
    case DType::kFloat64: return body(double{});
    case DType::kBFloat16: return body(BFloat16{});
    case DType::kFloat16: return body(Float16{});
    case DType::kUInt8:
    case DType::kInt8: return;
  }
}

}  // namespace fastconv
