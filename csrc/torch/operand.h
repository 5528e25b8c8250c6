// An activation of a call, whose layout is known before the choice and which is copied only for the row that runs.
#pragma once

#include "torch/problem.h"

namespace fastconv::binding {

class Operand {
 public:
  explicit Operand(const Tensor& tensor) : tensor_(tensor), shape_(shape_of(tensor)) {}
  /// The layout is this one; a tensor that cannot be read so is copied.
  void force(Layout layout);
  /// Finds the layout, once: `preferred` wins where the tensor can be read as either, and is what a copy has.
  void prefer(Layout preferred);

  /// The layout that `data` has.
  Layout layout() const { return layout_; }
  /// The tensor as it was given.
  const Tensor& tensor() const { return tensor_; }
  const Shape& shape() const { return shape_; }
  /// Its elements dense in `layout`: its own, or of a copy that is made at the first call and kept.
  const void* data();

 private:
  const Tensor& tensor_;
  const Shape shape_;
  Layout layout_ = Layout::kNchw;
  bool lies_dense_ = false;
  Tensor copy_;
};

/// The problem of a call whose x and y lie as the operands say; one that is to be computed is null.
ConvProblem problem_of(const Call& call, const Operand* x, const Operand* y);

/// The layout of the call's result, which its other operand is copied to if it has to be copied.
inline Layout layout_of(const Call& call) { return call.channels_last ? Layout::kNhwc : Layout::kNchw; }

/// A copy of `tensor`, dense in its order of axes, or channels last, for any number of axes.
Tensor dense(const Tensor& tensor, bool channels_last);

/// Whether 16 bytes can be loaded at once, as the CUDA kernels do.
bool is_aligned(const Tensor& tensor);

}  // namespace fastconv::binding
