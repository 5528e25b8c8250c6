// What the implicit-GEMM kernels of igemm_sm90a.h take, and the tensor maps that their loads go by, made on the host.
//
// The im2col map is told where tap 0 may be: from `lower`, counted from the first pixel of the image, to `upper`,
// counted from the last. With `upper` the very place of the last output's tap 0, a copy that goes from row to row and
// image to image visits the outputs in their order, whatever padding (even uneven or negative) and stride.
#pragma once

#include "conv/cuda/igemm_plan.h"
#include "core/cuda/tensor_map.h"

namespace fastconv {
namespace {

/// What the loads and stores need of the problem.
struct HopperShape {
  int gemm_m, K, C, R, S;
  int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int steps;  // of the walk over tiles
  FastDivmod by_steps_n, by_q, by_p;
};

/// Channels of a step of gemm_k: 128 bytes.
constexpr int kHopperDepth = 64;

inline int64_t upper_corner(int64_t in, int64_t out, int64_t stride, int64_t pad) {
  return (out - 1) * stride - pad - (in - 1);
}

inline const char* igemm_hopper_why_not(const ConvProblem& p) {
  if (const char* reason = igemm_half_why_not(p)) return reason;
  if (!p.is_2d()) return "takes images only";
  if (p.groups != 1) return "takes one group only";
  if (4 * p.C < 3 * ((p.C + kHopperDepth - 1) / kHopperDepth * kHopperDepth))
    return "takes channels to sum over that fill three quarters of steps of 64";
  if (p.stride_h > 8 || p.stride_w > 8) return "takes strides up to 8";
  if ((p.R - 1) * p.dilation_h > 255 || (p.S - 1) * p.dilation_w > 255) return "takes filters that span 256 pixels";
  if (p.y_elements() == 0) return nullptr;
  if (p.x_elements() == 0 || p.w_elements() == 0) return "takes an image and a filter that are not empty";
  for (int64_t corner :
       {-p.pad_h, -p.pad_w, upper_corner(p.H, p.P, p.stride_h, p.pad_h), upper_corner(p.W, p.Q, p.stride_w, p.pad_w)})
    if (corner < -128 || corner > 127) return "takes tap 0 within 128 pixels of the image's corners";
  return nullptr;
}

inline TensorMap map_of_pixels(const ConvProblem& p, const void* x, int pixels) {
  const int64_t size = element_size(p.dtype);
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  Im2colTensor tensor;
  tensor.dtype = p.dtype, tensor.data = x, tensor.rank = 4;
  const int64_t extent[4] = {p.C, p.W, p.H, p.N};
  int64_t stride = size;
  for (int axis = 0; axis < 4; ++axis) {
    tensor.extent[axis] = extent[axis], tensor.stride[axis] = stride;
    stride *= extent[axis];
  }
  tensor.step[0] = i(p.stride_w), tensor.step[1] = i(p.stride_h);
  tensor.lower[0] = i(-p.pad_w), tensor.lower[1] = i(-p.pad_h);
  tensor.upper[0] = i(upper_corner(p.W, p.Q, p.stride_w, p.pad_w));
  tensor.upper[1] = i(upper_corner(p.H, p.P, p.stride_h, p.pad_h));
  tensor.channels = kHopperDepth, tensor.pixels = pixels;
  tensor.swizzle = Swizzle::k128;
  return tensor_map(tensor);
}

inline TensorMap map_of_filter(const ConvProblem& p, const void* krsc, int filters) {
  const int64_t size = element_size(p.dtype);
  TiledTensor tensor;
  tensor.dtype = p.dtype, tensor.data = krsc, tensor.rank = 3;
  tensor.extent[0] = p.C, tensor.extent[1] = p.R * p.S, tensor.extent[2] = p.K;
  tensor.stride[0] = size, tensor.stride[1] = p.C * size, tensor.stride[2] = p.R * p.S * p.C * size;
  tensor.box[0] = kHopperDepth, tensor.box[2] = filters;
  tensor.swizzle = Swizzle::k128;
  return tensor_map(tensor);
}

}  // namespace
}  // namespace fastconv
