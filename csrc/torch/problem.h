// From the arguments of a convolution, as aten gives them, to the problem record and the memory format of the result.
#pragma once

#include "conv/conv.h"
#include "torch/tensor.h"

namespace fastconv::binding {

/// stride, padding, dilation and output padding of `spatial` axes, each list expanded where it gave one number.
struct Geometry {
  Ints stride, padding, dilation, output_padding;
  int64_t groups = 1;
  bool transposed = false;
  bool operator==(const Geometry&) const = default;
};

/// Sizes and strides of one operand, read once.
struct Shape {
  int64_t dim = 0;
  const int64_t* sizes = nullptr;
  const int64_t* strides = nullptr;
  int32_t dtype = 0;
  Device device;
};
Shape shape_of(const Tensor& tensor);
/// Throws where there are more axes than Ints holds.
Ints sizes_of(const Shape& shape);
bool has_sizes(const Shape& shape, const Ints& sizes);

/// One number for every axis, or one per axis, each at least `least`: one per axis afterwards, false for other lists.
bool expand(Ints* list, int64_t spatial, int64_t least);
/// The last `spatial` of the three axes (depth, height, width) that a record names.
void spread(const int64_t* from, int64_t spatial, int64_t* depth, int64_t* height, int64_t* width);

/// What a convolution of aten asks for: `problem` has the roles of fprop, so that a transposed convolution's input is
/// the problem's y and its direction dgrad. The activations' layouts are left to the caller.
struct Call {
  ConvProblem problem;
  Direction direction = Direction::kFprop;
  int64_t spatial = 2;
  Ints output_sizes;
  int32_t dtype = 0;
  Device device;
  bool channels_last = false;  // torch's memory format of the result
};

/// Null where fastconv can compute the call; else the reason in words: the arguments are invalid, or unusual enough to
/// be left to torch (integers, complex numbers, extents of zero). `bias` may be null.
const char* read_call(const Shape& input, const Shape& weight, const Shape* bias, Geometry geometry, Call* call);

/// The layouts an activation can be read in as it lies, of which `preferred` wins; false where it has to be copied.
bool dense_layout(const Shape& shape, Layout preferred, Layout* layout);

/// Strides of a dense tensor in torch's own way, or channels last.
Ints dense_strides(const Ints& sizes, bool channels_last);

/// The weight by its own strides; element (k, c) of the problem's letters, whichever way aten names them.
Filter filter_of(void* data, const int64_t* strides, const ConvProblem& problem, int64_t spatial);

/// What torch's Tensor::suggest_memory_format says: whether the strides read as channels last.
bool suggests_channels_last(const Shape& shape);

}  // namespace fastconv::binding
