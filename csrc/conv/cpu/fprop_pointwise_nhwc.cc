// y[n,p,q,k] = sum over c of x[n, p * stride, q * stride, c] * w[k,c]: a 1x1 convolution is a matrix product.
//
// x is read where it lies: rows of A are pixels, broadcast one channel at a time; the filter is packed into panels of
// kPanel columns. With unit stride all pixels of the batch form one long matrix, else each output row is one.
// Work is cut into a grid of pixel tiles by panels (core/cpu/split.h); a thread walks its pixels in blocks whose rows
// of A stay in L2 while every panel passes over them.

#include "conv/cpu/pointwise.h"

namespace fastconv {

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_fprop_pointwise_nhwc)) = kPointwise;

}  // namespace fastconv
