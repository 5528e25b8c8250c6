#include "torch/convolution.h"

namespace fastconv::binding {
namespace {

bool same_sizes(const Shape& shape, const Ints& sizes) {
  if (shape.dim != sizes.count) return false;
  for (int64_t d = 0; d < shape.dim; ++d)
    if (shape.sizes[d] != sizes[d]) return false;
  return true;
}

/// The call whose output is the gradient of `call`'s input: fprop and dgrad exchanged.
Call toward_input(const Call& call, const Shape& input) {
  Call other = call;
  other.direction = call.direction == Direction::kFprop ? Direction::kDgrad : Direction::kFprop;
  other.output_sizes = sizes_of(input);
  return other;
}

}  // namespace

Tensor convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& geometry,
                   const Settings& settings) {
  Call call;
  const Shape bias_shape = bias ? shape_of(bias) : Shape();
  if (understand(shape_of(input), shape_of(weight), bias ? &bias_shape : nullptr, geometry, &call))
    return native_convolution(input, weight, bias, geometry);
  const Operands operands(call, geometry.transposed ? nullptr : &input, geometry.transposed ? &input : nullptr);
  const ConvPlan plan = select(call.direction, operands.problem(), call.device, settings);
  if (!plan.row) return native_convolution(input, weight, bias, geometry);
  return run_forward(plan, call, operands, weight, bias, Extras());
}

Gradients backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                   const Geometry& geometry, const bool (&mask)[3], const Settings& settings) {
  Call call;
  const Shape grad_shape = shape_of(grad), input_shape = shape_of(input), weight_shape = shape_of(weight);
  if (understand(input_shape, weight_shape, nullptr, geometry, &call) || !same_sizes(grad_shape, call.output_sizes) ||
      grad_shape.dtype != call.dtype || grad_shape.device != call.device)
    return native_backward(grad, input, weight, bias_sizes, geometry, mask);

  const bool transposed = geometry.transposed;
  Gradients out;
  bool left[3] = {false, false, false};
  if (mask[0]) {
    const Call to_input = toward_input(call, input_shape);
    const Operands operands(to_input, transposed ? &grad : nullptr, transposed ? nullptr : &grad);
    const ConvPlan plan = select(to_input.direction, operands.problem(), call.device, settings);
    if (input_shape.sizes[0] == 0)
      out.input = empty_strided(input_shape.dim, input_shape.sizes, input_shape.strides, call.dtype, call.device);
    else if (plan.row) out.input = run_forward(plan, to_input, operands, weight, Tensor(), Extras());
    else left[0] = true;
  }
  if (mask[1]) {
    const Operands operands(call, transposed ? &grad : &input, transposed ? &input : &grad);
    const ConvPlan plan = select(Direction::kWgrad, operands.problem(), call.device, settings);
    if (plan.row) out.weight = run_wgrad(plan, call, operands, sizes_of(weight_shape), gradient_strides(weight_shape));
    else left[1] = true;
  }
  if (left[0] || left[1]) {
    left[2] = mask[2];  // torch has it almost for nothing while it does the others
    Gradients native = native_backward(grad, input, weight, bias_sizes, geometry, left);
    if (left[0]) out.input = std::move(native.input);
    if (left[1]) out.weight = std::move(native.weight);
    if (left[2]) out.bias = std::move(native.bias);
  }
  if (mask[2] && !left[2]) out.bias = run_bias_grad(grad, call);
  return out;
}

}  // namespace fastconv::binding
