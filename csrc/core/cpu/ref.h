// What reference kernels share: elements by index in any layout, and a read or write through double.
#pragma once

#include <cmath>
#include <utility>

#include "core/cpu/long_sum.h"
#include "core/cpu/parallel.h"
#include "core/epilogue.h"
#include "core/half.h"

namespace fastconv {
namespace {

inline double read(const double* p) { return *p; }
template <class T>
double read(const T* p) {
  return to_float(*p);
}
inline void write(double value, double* p) { *p = value; }
template <class T>
void write(double value, T* p) {
  from_float(static_cast<float>(value), p);
}

/// A sum in double, of blocks that are summed apart.
class LongSum {
 public:
  LongSum& operator+=(double value) {
    block_ += value;
    if (++count_ % kBlockOfSum == 0) blocks_ += std::exchange(block_, 0.0);
    return *this;
  }
  operator double() const { return blocks_ + block_; }

 private:
  double blocks_ = 0, block_ = 0;
  int64_t count_ = 0;
};

/// Strides of an activation's axes in elements.
struct Axes {
  int64_t n, c, d, h, w;
  int64_t at(int64_t in, int64_t ic, int64_t id, int64_t ih, int64_t iw) const {
    return in * n + ic * c + id * d + ih * h + iw * w;
  }
};
inline Axes axes_of(int64_t C, int64_t D, int64_t H, int64_t W, Layout layout) {
  if (layout == Layout::kNhwc) return {D * H * W * C, 1, H * W * C, W * C, C};
  return {C * D * H * W, D * H * W, H * W, W, 1};
}

inline double activate(double x, Activation activation) {
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return x < 0 ? 0 : x;
    case Activation::kRelu6: return x < 0 ? 0 : x > 6 ? 6 : x;
    case Activation::kHardSwish: {
      const double gate = x + 3 < 0 ? 0 : x + 3 > 6 ? 6 : x + 3;
      return x * gate / 6;
    }
    case Activation::kSilu: return x / (1 + std::exp(-x));
    case Activation::kSigmoid: return 1 / (1 + std::exp(-x));
  }
  return x;
}

/// `index` is the output element's place, which the residual shares.
template <class T>
double finish(double sum, const Epilogue& e, int64_t channel, int64_t index) {
  using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;
  if (e.scale) sum *= static_cast<const Accumulator*>(e.scale)[channel];
  if (e.shift) sum += static_cast<const Accumulator*>(e.shift)[channel];
  if (e.residual) sum += read(static_cast<const T*>(e.residual) + index);
  return activate(sum, e.activation);
}

/// Calls `body(T{})` with the element type of `dtype`, which is no integer.
template <class Body>
void with_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kFloat32: return body(float{});
    case DType::kFloat64: return body(double{});
    case DType::kBFloat16: return body(BFloat16{});
    case DType::kFloat16: return body(Float16{});
    case DType::kUInt8:
    case DType::kInt8: return;
  }
}

template <class Problem>
const char* takes_everything(const Problem&) {
  return nullptr;
}

}  // namespace
}  // namespace fastconv
