// fastconv under aten::convolution and aten::convolution_backward at the CPU key.
//
// Registered on the first `fastconv.enable()` and never before, so that a process that enables nothing pays nothing.
// With the flag off, or for arguments that understand() leaves to torch, or where no row is known to win, the call goes
// on to torch's kernel.

#include <mutex>

#include "torch/run.h"
#include "torch/state_api.h"

namespace fastconv::binding {
namespace {

/// An undefined tensor stands for None in what the dispatcher hands over.
void drop_undefined(Tensor* tensor) {
  bool defined = false;
  if (*tensor) check(aoti_torch_is_defined(tensor->get(), &defined));
  if (!defined) *tensor = Tensor();
}

Tensor convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& geometry) {
  if (!enabled()) return native_convolution(input, weight, bias, geometry);
  Call call;
  const Shape bias_shape = bias ? shape_of(bias) : Shape();
  if (understand(shape_of(input), shape_of(weight), bias ? &bias_shape : nullptr, geometry, &call))
    return native_convolution(input, weight, bias, geometry);
  const Operands operands(call, geometry.transposed ? nullptr : &input, geometry.transposed ? &input : nullptr);
  const ConvPlan plan = select(call.direction, operands.problem(), settings());
  if (!plan.row) return native_convolution(input, weight, bias, geometry);
  return run_forward(plan, call, operands, weight, bias, Extras());
}

bool same_sizes(const Shape& shape, const Ints& sizes) {
  if (shape.dim != sizes.count) return false;
  for (int64_t d = 0; d < shape.dim; ++d)
    if (shape.sizes[d] != sizes[d]) return false;
  return true;
}

Gradients backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                   const Geometry& geometry, const bool (&mask)[3]) {
  if (!enabled()) return native_backward(grad, input, weight, bias_sizes, geometry, mask);
  Call call;
  const Shape grad_shape = shape_of(grad), weight_shape = shape_of(weight);
  if (understand(shape_of(input), weight_shape, nullptr, geometry, &call) ||
      !same_sizes(grad_shape, call.output_sizes) || grad_shape.dtype != call.dtype)
    return native_backward(grad, input, weight, bias_sizes, geometry, mask);

  const Settings current = settings();
  const bool transposed = geometry.transposed;
  Gradients out;
  bool left[3] = {false, false, false};
  if (mask[0]) {
    Call to_input = call;
    to_input.direction = transposed ? Direction::kFprop : Direction::kDgrad;
    const Shape input_shape = shape_of(input);
    to_input.output_sizes.count = input_shape.dim;
    for (int64_t d = 0; d < input_shape.dim; ++d) to_input.output_sizes.values[d] = input_shape.sizes[d];
    const Operands operands(to_input, transposed ? &grad : nullptr, transposed ? nullptr : &grad);
    const ConvPlan plan = select(to_input.direction, operands.problem(), current);
    if (plan.row) out.input = run_forward(plan, to_input, operands, weight, Tensor(), Extras());
    else left[0] = true;
  }
  if (mask[1]) {
    const Operands operands(call, transposed ? &grad : &input, transposed ? &input : &grad);
    const ConvPlan plan = select(Direction::kWgrad, operands.problem(), current);
    if (plan.row) {
      Ints sizes;
      sizes.count = weight_shape.dim;
      for (int64_t d = 0; d < weight_shape.dim; ++d) sizes.values[d] = weight_shape.sizes[d];
      out.weight = run_wgrad(plan, call, operands, sizes, gradient_strides(weight_shape));
    } else {
      left[1] = true;
    }
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

Geometry read_geometry(Arguments& next) {
  Geometry g;
  g.stride = next.ints();
  g.padding = next.ints();
  g.dilation = next.ints();
  g.transposed = next.boolean();
  g.output_padding = next.ints();
  g.groups = next.integer();
  return g;
}

void boxed_convolution(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor input = next.tensor(), weight = next.tensor();
  Tensor bias = next.optional_tensor();
  drop_undefined(&bias);
  const Geometry geometry = read_geometry(next);
  stack[0] = result(convolution(input, weight, bias, geometry));
}

StableIValue result_or_undefined(Tensor tensor) {
  if (tensor) return result(std::move(tensor));
  AtenTensorHandle undefined;
  check(aoti_torch_new_uninitialized_tensor(&undefined));
  return result(Tensor(undefined));
}

void boxed_backward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor grad = next.tensor(), input = next.tensor(), weight = next.tensor();
  Ints bias_sizes;
  const bool has_bias_sizes = next.optional_ints(&bias_sizes);
  const Geometry geometry = read_geometry(next);
  bool mask[3];
  next.booleans(mask);
  Gradients out = backward(grad, input, weight, has_bias_sizes ? &bias_sizes : nullptr, geometry, mask);
  stack[0] = result_or_undefined(std::move(out.input));
  stack[1] = result_or_undefined(std::move(out.weight));
  stack[2] = result_or_undefined(std::move(out.bias));
}

}  // namespace
}  // namespace fastconv::binding

void fastconv_install() {
  using fastconv::binding::boxed_backward;
  using fastconv::binding::boxed_convolution;
  using torch::stable::detail::StableLibrary;
  static std::once_flag once;
  std::call_once(once, [] {
    // Never destroyed: another thread may be inside a kernel while the process ends.
    auto* library = new StableLibrary(StableLibrary::Kind::IMPL, "aten", "CPU", __FILE__, __LINE__);
    library->impl("convolution", boxed_convolution);
    library->impl("convolution_backward", boxed_backward);
  });
}
