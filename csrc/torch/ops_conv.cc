// torch.ops.fastconv: the three directions of conv with a kernel named by hand, the epilogue and packed weights, and
// the short forms (leading underscore) that the eager path of Python calls. Fakes, autograd, autocast:
// fastconv/ops/conv.py.

#include "torch/convolution.h"
#include "torch/geometry.h"
#include "torch/pack.h"

namespace fastconv::binding {
namespace {

[[noreturn]] void refuse(const std::string& text) { throw std::runtime_error("fastconv: " + text); }

Geometry read_geometry(Arguments& next) {
  Geometry g;
  g.stride = next.ints();
  g.padding = next.ints();
  g.dilation = next.ints();
  g.groups = next.integer();
  g.output_padding.count = g.stride.count;
  return g;
}

Activation activation_named(const std::string& name) {
  constexpr std::pair<const char*, Activation> kNames[] = {
      {"none", Activation::kNone},           {"relu", Activation::kRelu}, {"relu6", Activation::kRelu6},
      {"hardswish", Activation::kHardSwish}, {"silu", Activation::kSilu}, {"sigmoid", Activation::kSigmoid}};
  for (const auto& [known, activation] : kNames)
    if (name == known) return activation;
  refuse("activation='" + name + "' is not one of none, relu, relu6, hardswish, silu, sigmoid");
}

Settings settings_for(const std::string& kernel, Direction direction) {
  Settings s = settings();
  if (!kernel.empty()) s.kernel[static_cast<int>(direction)] = row_named(kernel, direction);
  return s;
}

/// The options that conv and conv_dgrad share, in the order of their schemas.
struct Options {
  std::string kernel;
  Extras extras;
  Tensor packed;

  explicit Options(Arguments& next) : kernel(next.string()) {
    extras.scale = next.optional_tensor();
    extras.residual = next.optional_tensor();
    extras.activation = activation_named(next.string());
    packed = next.optional_tensor();
  }
};

void check_epilogue(const Extras& extras, const Call& call) {
  if (extras.scale) {
    const Shape s = shape_of(extras.scale);
    if (s.dim != 1 || s.sizes[0] != call.output_sizes[1] || s.dtype != call.dtype || s.device != call.device)
      refuse("scale has to be one number per output channel (" + std::to_string(call.output_sizes[1]) +
             ") in the input's dtype, on its device");
  }
  if (extras.residual) {
    const Shape s = shape_of(extras.residual);
    if (s.dtype != call.dtype || sizes_of(s) != call.output_sizes || s.device != call.device)
      refuse("residual has to have the output's shape, dtype and device");
  }
}

/// The chosen plan of an own op that may bring a packed weight; a packed weight names its kernel.
ConvPlan select_with(Options& options, Direction direction, const ConvProblem& problem, const Device& device) {
  const Settings settings = settings_for(options.kernel, direction);
  const ConvRow* named = settings.kernel[static_cast<int>(direction)];
  if (options.packed && !device.cuda) {  // CUDA's rows take weights as they lie
    const ConvRow* row = row_of_packed(options.packed, problem, direction);
    if (row && (!named || named == row)) {
      options.extras.packed = packed_data(options.packed);
      return plan_for(*row, problem);
    }
  }
  return select(direction, problem, device, settings, options.extras.has_epilogue());
}

void boxed_conv(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  const Geometry geometry = read_geometry(next);
  Options options(next);
  Call call;
  const Shape bias_shape = bias ? shape_of(bias) : Shape();
  const char* reason = understand(shape_of(input), shape_of(weight), bias ? &bias_shape : nullptr, geometry, &call);
  if (reason) {
    if (options.extras.has_epilogue()) refuse(std::string("conv with an epilogue: ") + reason);
    stack[0] = result(native_convolution(input, weight, bias, geometry));
    return;
  }
  check_epilogue(options.extras, call);
  const Operands operands(call, &input, nullptr);
  const ConvPlan plan = select_with(options, Direction::kFprop, operands.problem(), call.device);
  stack[0] = result(plan.row ? run_forward(plan, call, operands, weight, bias, options.extras)
                             : native_convolution(input, weight, bias, geometry));
}

void boxed_conv_dgrad(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor grad = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  const Ints input_size = next.ints();
  const Geometry geometry = read_geometry(next);
  Options options(next);
  const Shape grad_shape = shape_of(grad), weight_shape = shape_of(weight);
  const Ints strides = dense_strides(input_size, suggests_channels_last(grad_shape));
  const Shape input{input_size.count, input_size.values, strides.values, grad_shape.dtype, grad_shape.device};
  Call call;
  if (const char* reason = understand(input, weight_shape, nullptr, geometry, &call))
    refuse(std::string("conv_dgrad: ") + reason);
  if (sizes_of(grad_shape) != call.output_sizes) refuse("conv_dgrad: grad does not have the sizes of conv's output");
  call.output_sizes = input_size;
  call.direction = Direction::kDgrad;
  if (bias && (bias.dim() != 1 || bias.sizes()[0] != input_size[1] || bias.dtype() != call.dtype ||
               bias.device() != call.device))
    refuse("conv_dgrad: bias is not one number per channel of the result, on its device");
  check_epilogue(options.extras, call);
  const Operands operands(call, nullptr, &grad);
  const ConvPlan plan = select_with(options, Direction::kDgrad, operands.problem(), call.device);
  if (plan.row || bias) {
    const ConvPlan serving =
        plan.row ? plan : select(Direction::kDgrad, operands.problem(), call.device, settings(), true);
    stack[0] = result(run_forward(serving, call, operands, weight, bias, options.extras));
    return;
  }
  const Tensor like = empty_strided(input.dim, input.sizes, input.strides, input.dtype, input.device);
  const bool mask[3] = {true, false, false};
  stack[0] = result(native_backward(grad, like, weight, nullptr, geometry, mask).input);
}

void boxed_conv_wgrad(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor grad = next.tensor(), input = next.tensor();
  const Ints weight_size = next.ints(), weight_stride = next.ints();
  const Geometry geometry = read_geometry(next);
  const std::string kernel = next.string();
  const Shape grad_shape = shape_of(grad), input_shape = shape_of(input);
  if (weight_stride.count != weight_size.count) refuse("conv_wgrad: weight_size and weight_stride differ in length");
  const Shape weight{weight_size.count, weight_size.values, weight_stride.values, input_shape.dtype,
                     input_shape.device};
  Call call;
  if (const char* reason = understand(input_shape, weight, nullptr, geometry, &call))
    refuse(std::string("conv_wgrad: ") + reason);
  if (sizes_of(grad_shape) != call.output_sizes || grad_shape.dtype != call.dtype || grad_shape.device != call.device)
    refuse("conv_wgrad: grad does not have the sizes, dtype and device of conv's output");
  const Ints strides = gradient_strides(weight);
  const Operands operands(call, &input, &grad);
  const ConvPlan plan =
      select(Direction::kWgrad, operands.problem(), call.device, settings_for(kernel, Direction::kWgrad));
  if (plan.row) {
    stack[0] = result(run_wgrad(plan, call, operands, weight_size, strides));
    return;
  }
  const Tensor like = empty_strided(weight.dim, weight.sizes, strides.values, weight.dtype, weight.device);
  const bool mask[3] = {false, true, false};
  stack[0] = result(with_strides(native_backward(grad, input, like, nullptr, geometry, mask).weight, strides));
}

void boxed_conv_bias_grad(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor grad = Arguments(stack).tensor();
  const Shape shape = shape_of(grad);
  Call call;
  call.channels_last = suggests_channels_last(shape);
  call.device = shape.device;
  if (shape.dim < 3 || shape.dim > 5 || !dtype_of(shape.dtype, &call.problem.dtype))
    refuse("conv_bias_grad: grad is not a batch of float16, bfloat16, float32 or float64 images");
  stack[0] = result(run_bias_grad(grad, call));
}

Direction direction_named(const std::string& name) {
  for (const Direction direction : {Direction::kFprop, Direction::kDgrad, Direction::kWgrad})
    if (name == name_of(direction)) return direction;
  refuse("direction='" + name + "' is not one of fprop, dgrad, wgrad");
}

/// The call a set of extents stands for, with activations dense in the weight's or the input's format.
struct Abstract {
  Call call;
  ConvProblem problem;
};
Abstract abstract_call(const Shape& input, const Shape& weight, const Geometry& geometry, Direction direction) {
  Abstract a;
  if (const char* reason = understand(input, weight, nullptr, geometry, &a.call)) refuse(reason);
  a.call.direction = direction;
  a.problem = a.call.problem;
  a.problem.x_layout = a.problem.y_layout = a.call.channels_last ? Layout::kNhwc : Layout::kNchw;
  return a;
}

void boxed_conv_pack(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor weight = next.tensor();
  const Ints input_size = next.ints();
  const bool channels_last = next.boolean();
  const Geometry geometry = read_geometry(next);
  const Direction direction = direction_named(next.string());
  const std::string kernel = next.string();
  const Ints strides = dense_strides(input_size, channels_last);
  const Shape weight_shape = shape_of(weight);
  const Shape input{input_size.count, input_size.values, strides.values, weight_shape.dtype, weight_shape.device};
  Abstract a = abstract_call(input, weight_shape, geometry, direction);
  const ConvPlan plan = select(direction, a.problem, a.call.device, settings_for(kernel, direction));
  Tensor packed = plan.row && direction != Direction::kWgrad ? pack_weight(plan, a.call, weight) : Tensor();
  const int64_t none = 0, one = 1;
  stack[0] =
      result(packed ? std::move(packed) : empty_strided(1, &none, &one, aoti_torch_dtype_uint8(), weight_shape.device));
}

void boxed_conv_choice(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor input = next.tensor(), weight = next.tensor();
  Geometry geometry = read_geometry(next);
  const Direction direction = direction_named(next.string());
  const Shape input_shape = shape_of(input), weight_shape = shape_of(weight);
  Call call;
  if (const char* reason = understand(input_shape, weight_shape, nullptr, geometry, &call)) {
    stack[0] = result(std::string("torch: ") + reason);
    return;
  }
  const Operands operands(call, &input, nullptr);
  const Settings current = settings();
  const ConvPlan plan = select(direction, operands.problem(), call.device, current);
  stack[0] = result(plan.row ? std::string(plan.row->name)
                             : "torch: no kernel is known to win" +
                                   reasons(direction, operands.problem(), call.device, current));
}

void boxed_short_conv(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  stack[0] = result(convolution(input, weight, bias, geometry_of(next.integer()), settings()));
}

void boxed_conv_packed(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  const Geometry& geometry = geometry_of(next.integer());
  const int64_t cache = next.integer();
  next.boolean();  // frozen
  const int64_t version = next.integer();
  Call call;
  const Shape bias_shape = bias ? shape_of(bias) : Shape();
  if (!understand(shape_of(input), shape_of(weight), bias ? &bias_shape : nullptr, geometry, &call)) {
    const Operands operands(call, geometry.transposed ? nullptr : &input, geometry.transposed ? &input : nullptr);
    if (const ConvPlan plan = select(call.direction, operands.problem(), call.device, settings()); plan.row) {
      const auto packed = cached_packed(cache, version, plan, call, weight);
      Extras extras;
      if (packed) extras.packed = packed_data(*packed);
      stack[0] = result(run_forward(plan, call, operands, weight, bias, extras));
      return;
    }
  }
  stack[0] = result(native_convolution(input, weight, bias, geometry));
}

void boxed_conv_backward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor grad = next.tensor(), input = next.tensor(), weight = next.tensor();
  const Geometry& geometry = geometry_of(next.integer());
  const int64_t bits = next.integer();
  const bool mask[3] = {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0};
  Ints bias_sizes;
  bias_sizes.count = 1;
  bias_sizes.values[0] = geometry.transposed ? weight.sizes()[1] * geometry.groups : weight.sizes()[0];
  Gradients out = backward(grad, input, weight, mask[2] ? &bias_sizes : nullptr, geometry, mask, settings());
  if (out.weight) out.weight = with_strides(std::move(out.weight), gradient_strides(shape_of(weight)));
  stack[0] = result_or_undefined(std::move(out.input));
  stack[1] = result_or_undefined(std::move(out.weight));
  stack[2] = result_or_undefined(std::move(out.bias));
}

#define FASTCONV_GEOMETRY "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"
#define FASTCONV_OPTIONS \
  "str kernel_name=\"\", Tensor? scale=None, Tensor? residual=None, str activation=\"none\", Tensor? packed=None"

STABLE_TORCH_LIBRARY(fastconv, m) {
  m.def("conv(Tensor input, Tensor weight, Tensor? bias, " FASTCONV_GEOMETRY ", " FASTCONV_OPTIONS ") -> Tensor");
  m.def("conv_dgrad(Tensor grad, Tensor weight, Tensor? bias, SymInt[] input_size, " FASTCONV_GEOMETRY
        ", " FASTCONV_OPTIONS ") -> Tensor");
  m.def("conv_wgrad(Tensor grad, Tensor input, SymInt[] weight_size, SymInt[] weight_stride, " FASTCONV_GEOMETRY
        ", str kernel_name=\"\") -> Tensor");
  m.def("conv_bias_grad(Tensor grad) -> Tensor");
  m.def("conv_pack(Tensor weight, SymInt[] input_size, bool channels_last, " FASTCONV_GEOMETRY
        ", str direction=\"fprop\", str kernel_name=\"\") -> Tensor");
  m.def("conv_choice(Tensor input, Tensor weight, " FASTCONV_GEOMETRY ", str direction=\"fprop\") -> str");
  m.def("_conv(Tensor input, Tensor weight, Tensor? bias, int geometry) -> Tensor");
  m.def("_conv_packed(Tensor input, Tensor weight, Tensor? bias, int geometry, int cache, bool frozen, int version) -> Tensor");
  m.def("_conv_backward(Tensor grad, Tensor input, Tensor weight, int geometry, int mask) -> (Tensor, Tensor, Tensor)");
}

void implement(torch::stable::detail::StableLibrary& m) {
  m.impl("conv", boxed_conv);
  m.impl("conv_dgrad", boxed_conv_dgrad);
  m.impl("conv_wgrad", boxed_conv_wgrad);
  m.impl("conv_bias_grad", boxed_conv_bias_grad);
  m.impl("conv_pack", boxed_conv_pack);
  m.impl("conv_choice", boxed_conv_choice);
  m.impl("_conv", boxed_short_conv);
  m.impl("_conv_packed", boxed_conv_packed);
  m.impl("_conv_backward", boxed_conv_backward);
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) { implement(m); }
#if defined(FASTCONV_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fastconv, CUDA, m) { implement(m); }
#endif

}  // namespace
}  // namespace fastconv::binding
