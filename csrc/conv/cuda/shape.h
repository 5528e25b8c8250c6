// A convolution as kernels take it: 32-bit extents, and strides for either layout.
#pragma once

#include "conv/conv.h"
#include "core/cuda/device.h"

namespace fastconv {

/// Strides of an activation's axes in elements.
struct ActivationStrides {
  int n, c, d, h, w;
  __device__ __forceinline__ int64_t at(int in, int ic, int id, int ih, int iw) const {
    return int64_t{1} * in * n + int64_t{1} * ic * c + int64_t{1} * id * d + int64_t{1} * ih * h + iw * w;
  }
};

/// The extents of ConvProblem; every tensor has fewer than 2^31 elements (`too_large`).
struct ConvShape {
  int N, C, D, H, W, K, T, R, S, Z, P, Q;
  int stride_d, stride_h, stride_w, pad_d, pad_h, pad_w, dilation_d, dilation_h, dilation_w;
  int groups, C_per_group, K_per_group;
  ActivationStrides x, y;
};

inline ActivationStrides strides_of(int64_t C, int64_t D, int64_t H, int64_t W, Layout layout) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  if (layout == Layout::kNhwc) return {i(D * H * W * C), 1, i(H * W * C), i(W * C), i(C)};
  return {i(C * D * H * W), i(D * H * W), i(H * W), i(W), 1};
}

inline ConvShape shape_of(const ConvProblem& p) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  return {i(p.N),
          i(p.C),
          i(p.D),
          i(p.H),
          i(p.W),
          i(p.K),
          i(p.T),
          i(p.R),
          i(p.S),
          i(p.Z),
          i(p.P),
          i(p.Q),
          i(p.stride_d),
          i(p.stride_h),
          i(p.stride_w),
          i(p.pad_d),
          i(p.pad_h),
          i(p.pad_w),
          i(p.dilation_d),
          i(p.dilation_h),
          i(p.dilation_w),
          i(p.groups),
          i(p.C_per_group()),
          i(p.K_per_group()),
          strides_of(p.C, p.D, p.H, p.W, p.x_layout),
          strides_of(p.K, p.Z, p.P, p.Q, p.y_layout)};
}

/// Null where 32-bit offsets reach every element and every intermediate coordinate; else the reason.
inline const char* too_large(const ConvProblem& p) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  for (int64_t elements : {p.x_elements(), p.w_elements(), p.y_elements()})
    if (elements > kMost) return "takes tensors of fewer than 2^31 elements";
  return reach(p) > kMost / 2 ? "takes strides, paddings and dilations that stay within 2^30 pixels" : nullptr;
}

}  // namespace fastconv
