#include "torch/convolution.h"

#include "torch/pack.h"

namespace fastconv::binding {
namespace {

[[noreturn]] void refuse(const std::string& text) { throw std::runtime_error("fastconv: " + text); }

/// The call whose output is the gradient of `call`'s input: fprop and dgrad exchanged.
Call toward_input(const Call& call, const Shape& input) {
  Call other = call;
  other.direction = call.direction == Direction::kFprop ? Direction::kDgrad : Direction::kFprop;
  other.output_sizes = sizes_of(input);
  return other;
}

}  // namespace

void check_epilogue(const Extras& extras, const Call& call) {
  if (extras.scale) {
    const Shape s = shape_of(extras.scale);
    if (s.dim != 1 || s.sizes[0] != call.output_sizes[1] || s.dtype != call.dtype || s.device != call.device)
      refuse("scale has to be one number per output channel (" + std::to_string(call.output_sizes[1]) +
             ") in the input's dtype, on its device");
  }
  if (extras.residual) {
    const Shape s = shape_of(extras.residual);
    if (s.dtype != call.dtype || !has_sizes(s, call.output_sizes) || s.device != call.device)
      refuse("residual has to have the output's shape, dtype and device");
  }
}

Tensor forward(const Call& call, Operand& source, const Tensor& weight, const Tensor& bias, const Extras& extras,
               const Settings& settings) {
  const bool fprop = call.direction == Direction::kFprop;
  const ConvProblem problem = problem_of(call, fprop ? &source : nullptr, fprop ? nullptr : &source);
  const RowBase* named = settings.kernel[slot_of(FamilyId::kConv, call.direction)];
  const void* packed = nullptr;
  ConvPlan plan;
  if (extras.packed && !call.device.cuda) {  // CUDA's rows take weights as they lie
    const ConvRow* row = row_of_packed(extras.packed, problem, call.direction);
    if (row && (!named || named == row)) {
      packed = packed_data(extras.packed);
      plan = plan_for(Conv::cpu_table(), *row, problem);
    }
  }
  if (!plan.row) plan = select<Conv>(call.direction, problem, call.device, settings, extras.has_epilogue());
  if (!plan.row) return Tensor();
  std::shared_ptr<const Tensor> held;
  if (extras.cache.id >= 0 && !packed) {
    held = cached_packed(extras.cache, plan, call, weight);
    if (held) packed = packed_data(*held);
  }
  Tensor out = run_forward(plan, problem, call, source, weight, bias, extras, packed);
  if (out) return out;
  check_may_hand_over(plan, problem, settings);
  if (!extras.has_epilogue()) return Tensor();
  plan = reference_for<Conv>(call.direction, problem, call.device, settings);
  if (plan.row) out = run_forward(plan, problem, call, source, weight, bias, extras, nullptr);
  if (!out) refuse("no memory for a convolution with an epilogue on " + encode(problem));
  return out;
}

Tensor weight_gradient(const Call& call, Operand& x, Operand& dy, const Ints& sizes, const Ints& strides,
                       const Settings& settings) {
  const ConvProblem problem = problem_of(call, &x, &dy);
  const ConvPlan plan = select<Conv>(Direction::kWgrad, problem, call.device, settings);
  if (!plan.row) return Tensor();
  Tensor out = run_wgrad(plan, problem, call, x, dy, sizes, strides);
  if (!out) check_may_hand_over(plan, problem, settings);
  return out;
}

Tensor convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& geometry,
                   const Extras& extras, const Settings& settings) {
  Call call;
  const Shape bias_shape = bias ? shape_of(bias) : Shape();
  Operand source(input);
  const char* reason = read_call(source.shape(), shape_of(weight), bias ? &bias_shape : nullptr, geometry, &call);
  if (!reason) {
    check_epilogue(extras, call);
    source.prefer(layout_of(call));
    if (Tensor out = forward(call, source, weight, bias, extras, settings)) return out;
  } else if (extras.throws) {
    throw std::runtime_error(reason);
  } else if (extras.has_epilogue()) {
    refuse(std::string("conv with an epilogue: ") + reason);
  }
  return native_convolution(input, weight, bias, geometry);
}

Gradients backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                   const Geometry& geometry, const bool (&mask)[3], const Settings& settings) {
  Call call;
  Operand dy(grad), x(input);
  const Shape weight_shape = shape_of(weight);
  if (read_call(x.shape(), weight_shape, nullptr, geometry, &call) || !has_sizes(dy.shape(), call.output_sizes) ||
      dy.shape().dtype != call.dtype || dy.shape().device != call.device)
    return native_backward(grad, input, weight, bias_sizes, geometry, mask);

  dy.prefer(layout_of(call));
  x.prefer(layout_of(call));
  Gradients out;
  bool left[3] = {false, false, false};
  if (mask[0]) {
    const Shape& shape = x.shape();
    if (shape.sizes[0] == 0) out.input = empty_strided(shape.dim, shape.sizes, shape.strides, call.dtype, call.device);
    else out.input = forward(toward_input(call, shape), dy, weight, Tensor(), Extras(), settings);
    left[0] = !out.input;
  }
  if (mask[1]) {
    Operand &of_x = geometry.transposed ? dy : x, &of_y = geometry.transposed ? x : dy;
    out.weight = weight_gradient(call, of_x, of_y, sizes_of(weight_shape), gradient_strides(weight_shape), settings);
    left[1] = !out.weight;
  }
  if (left[0] || left[1]) {
    left[2] = mask[2];  // torch has it almost for nothing while it does the others
    Gradients native = native_backward(grad, input, weight, bias_sizes, geometry, left);
    if (left[0]) out.input = std::move(native.input);
    if (left[1]) out.weight = std::move(native.weight);
    if (left[2]) out.bias = std::move(native.bias);
  }
  if (mask[2] && !left[2]) out.bias = run_bias_grad(dy, call.problem.dtype);
  return out;
}

}  // namespace fastconv::binding
