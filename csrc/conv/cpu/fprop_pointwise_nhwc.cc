// y[n,p,q,k] = sum over c of x[n, p * stride, q * stride, c] * w[k,c]: a 1x1 convolution is a matrix product.
//
// x is read where it lies: rows of A are pixels, broadcast one channel at a time; the filter is packed into panels of
// kPanel columns. With unit stride all pixels of the batch form one long matrix, else each output row is one.
// Work is cut into a grid of pixel tiles by panels (core/cpu/split.h); a thread walks its pixels in blocks whose rows of A
// stay in L2 while every panel passes over them.

#include "conv/cpu/pointwise.h"

namespace fastconv {
namespace {

const char* why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32) return "takes float32 only";
  if (!p.is_pointwise() || !p.is_2d()) return "takes 1x1 filters without padding only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  if (p.P > 0 && (p.P - 1) * p.stride_h >= p.H) return "outputs beyond the image";
  if (p.Q > 0 && (p.Q - 1) * p.stride_w >= p.W) return "outputs beyond the image";
  return nullptr;
}

void run(const ConvProblem& p, const ConvArgs& args) { run_pointwise(p, args); }

}  // namespace

FASTCONV_DEFINE(FASTCONV_NAME(conv_fprop_pointwise_nhwc)) = {.algorithm = Algorithm::kPointwise,
                                                             .why_not = why_not,
                                                             .run = run,
                                                             .packed_bytes = pointwise_packed_bytes,
                                                             .pack = pointwise_pack};

}  // namespace fastconv
