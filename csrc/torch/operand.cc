#include "torch/operand.h"

namespace fastconv::binding {

bool is_aligned(const Tensor& tensor) { return reinterpret_cast<uintptr_t>(tensor.data()) % 16 == 0; }

void Operand::prefer(Layout preferred) {
  lies_dense_ = dense_layout(shape_, preferred, &layout_);
  if (!lies_dense_) layout_ = preferred;
}

void Operand::force(Layout layout) {
  lies_dense_ = dense_layout(shape_, layout, &layout_) && layout_ == layout;
  layout_ = layout;
}

const void* Operand::data() {
  if (!copy_) {
    if (lies_dense_ && (!shape_.device.cuda || is_aligned(tensor_))) return tensor_.data();
    copy_ = lies_dense_ ? clone(tensor_) : dense(tensor_, layout_ == Layout::kNhwc);
  }
  return copy_.data();
}

ConvProblem problem_of(const Call& call, const Operand* x, const Operand* y) {
  ConvProblem problem = call.problem;
  problem.x_layout = x ? x->layout() : layout_of(call);
  problem.y_layout = y ? y->layout() : layout_of(call);
  return problem;
}

Tensor dense(const Tensor& tensor, bool channels_last) {
  const Shape shape = shape_of(tensor);
  const Ints strides = dense_strides(sizes_of(shape), channels_last);
  Tensor copy = empty_strided(shape.dim, shape.sizes, strides.values, shape.dtype, shape.device);
  check(aoti_torch_copy_(copy.get(), tensor.get(), 0));
  return copy;
}

}  // namespace fastconv::binding
