// A pooling as kernels take it: 32-bit extents, and windows found by multiplications.
#pragma once

#include <algorithm>

#include "core/cuda/fast_divmod.h"
#include "pool/pool.h"

namespace fastconv {
namespace {

/// What output o looks at along an axis: the taps [begin, end) in the image, of which tap t is input first + t * step.
struct Taps {
  int first, step, begin, end;
  __device__ __forceinline__ int input(int tap) const { return first + tap * step; }
};

struct Reach {
  int begin, end;
};

/// One spatial axis; see pool/window.h, whose functions these are in 32 bits.
struct CudaAxis {
  int in, out, taps, stride, pad, dilation;
  bool adaptive;
  FastDivmod of_inputs;   // by the dilation; adaptive: by `out`
  FastDivmod of_outputs;  // by the stride; adaptive: by `in`

  __device__ __forceinline__ Taps window(int o) const {
    if (adaptive) {
      const int begin = of_inputs.quotient(o * in);
      return {begin, 1, 0, of_inputs.quotient((o + 1) * in + out - 1) - begin};
    }
    const int first = o * stride - pad;
    const int inside = first < in ? of_inputs.quotient(in - first + dilation - 1) : 0;
    return {first, dilation, first < 0 ? of_inputs.quotient(-first + dilation - 1) : 0, inside < taps ? inside : taps};
  }

  /// What a mean divides by for this axis: at least 1.
  __device__ __forceinline__ int counted(const Taps& window, bool count_padding) const {
    const int beyond = in + pad - window.first;
    const int count = adaptive || !count_padding ? window.end - window.begin : beyond < taps ? beyond : taps;
    return count > 1 ? count : 1;
  }

  /// The outputs whose windows reach input i; with a dilation not all of them look at it.
  __device__ __forceinline__ Reach outputs(int i) const {
    if (adaptive) return {of_outputs.quotient(i * out), of_outputs.quotient((i + 1) * out + in - 1)};
    const int reach = i + pad, first = reach - (taps - 1) * dilation;
    const int last = of_outputs.quotient(reach) + 1;
    return {first > 0 ? of_outputs.quotient(first + stride - 1) : 0, last < out ? last : out};
  }

  /// The tap by which output o, which reaches input i, looks at it, or -1; 0 of adaptive windows.
  __device__ __forceinline__ int tap(int o, int i) const {
    if (adaptive) return 0;
    int found;
    return of_inputs.divmod(i + pad - o * stride, &found) == 0 ? found : -1;
  }
};

/// Strides of an activation's axes in elements.
struct PoolStrides {
  int n, c, d, h, w;
  __device__ __forceinline__ int at(int in, int ic, int id, int ih, int iw) const {
    return in * n + ic * c + id * d + ih * h + iw * w;
  }
};

/// Every tensor has fewer than 2^31 elements (`too_large`), so that 32 bits hold every offset and index.
struct PoolShape {
  int N, C;
  CudaAxis d, h, w;
  PoolStrides x, y;
  int divisor;  // 0 where the window's places are counted
  bool count_padding, index_in_window;

  /// What a mean divides by.
  template <class A>
  __device__ __forceinline__ A divisor_of(const Taps& at_d, const Taps& at_h, const Taps& at_w) const {
    if (divisor) return static_cast<A>(divisor);
    return static_cast<A>(d.counted(at_d, count_padding)) * static_cast<A>(h.counted(at_h, count_padding)) *
           static_cast<A>(w.counted(at_w, count_padding));
  }
};

inline CudaAxis axis_of(int64_t in, int64_t taps, int64_t out, int64_t stride, int64_t pad, int64_t dilation,
                        bool adaptive) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  const auto divide = [&](int64_t by) { return FastDivmod(i(std::max<int64_t>(by, 1))); };
  return {.in = i(in),
          .out = i(out),
          .taps = i(taps),
          .stride = i(stride),
          .pad = i(pad),
          .dilation = i(dilation),
          .adaptive = adaptive,
          .of_inputs = divide(adaptive ? out : dilation),
          .of_outputs = divide(adaptive ? in : stride)};
}

inline PoolStrides strides_of(int64_t C, int64_t D, int64_t H, int64_t W, Layout layout) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  if (layout == Layout::kNhwc) return {i(D * H * W * C), 1, i(H * W * C), i(W * C), i(C)};
  return {i(C * D * H * W), i(D * H * W), i(H * W), i(W), 1};
}

inline PoolShape shape_of(const PoolProblem& p) {
  return {static_cast<int>(p.N),
          static_cast<int>(p.C),
          axis_of(p.D, p.T, p.Z, p.stride_d, p.pad_d, p.dilation_d, p.adaptive),
          axis_of(p.H, p.R, p.P, p.stride_h, p.pad_h, p.dilation_h, p.adaptive),
          axis_of(p.W, p.S, p.Q, p.stride_w, p.pad_w, p.dilation_w, p.adaptive),
          strides_of(p.C, p.D, p.H, p.W, p.x_layout),
          strides_of(p.C, p.Z, p.P, p.Q, p.y_layout),
          static_cast<int>(p.divisor),
          p.count_padding,
          p.index == IndexType::kUInt8};
}

/// With room for what lies beyond the last in a block.
constexpr int64_t kMostElements = (int64_t{1} << 31) - 4096;

inline const char* why_not_axis(int64_t in, int64_t taps, int64_t out, int64_t stride, int64_t pad, int64_t dilation,
                                bool adaptive) {
  constexpr int64_t kMost = kMostElements / 2;
  if (adaptive) {
    return (in + 1) * (out + 1) > kMostElements
               ? "takes adaptive windows of axes whose inputs times outputs stay below 2^31"
               : nullptr;
  }
  const bool far = std::max({in, taps, out, stride, pad, dilation}) > kMost ||
                   (out + 1) * stride + 2 * pad + in + taps * dilation > kMost;
  return far ? "takes strides, paddings and dilations that stay within 2^30 pixels" : nullptr;
}

/// Null where 32 bits reach every element and every intermediate coordinate of the layout; else the reason.
inline const char* why_not_on(const PoolProblem& p, Layout layout) {
  if (p.mode != PoolMode::kAvg && p.mode != PoolMode::kMax) return "takes means and maxima only";
  if (is_integer(p.dtype)) return "takes no whole numbers";
  if (p.x_layout != layout || p.y_layout != layout)
    return layout == Layout::kNhwc ? "takes channels_last only" : "takes contiguous images only";
  for (int64_t elements : {p.x_elements(), p.y_elements(), p.divisor, -p.divisor})
    if (elements > kMostElements) return "takes tensors of fewer than 2^31 elements";
  if (const char* far = why_not_axis(p.D, p.T, p.Z, p.stride_d, p.pad_d, p.dilation_d, p.adaptive)) return far;
  if (const char* far = why_not_axis(p.H, p.R, p.P, p.stride_h, p.pad_h, p.dilation_h, p.adaptive)) return far;
  return why_not_axis(p.W, p.S, p.Q, p.stride_w, p.pad_w, p.dilation_w, p.adaptive);
}

}  // namespace
}  // namespace fastconv
