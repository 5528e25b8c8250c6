// torch.ops.fastconv: the three directions of conv with a kernel named by hand, the epilogue and packed weights, and
// the short forms (leading underscore) that the eager path of Python calls. Fakes, autograd, autocast:
// fastconv/ops/conv.py.

#include "torch/convolution.h"
#include "torch/geometry.h"
#include "torch/pack.h"
#include "torch/words.h"

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

Settings settings_for(const std::string& kernel, Direction direction) {
  Settings s = settings();
  if (!kernel.empty()) s.kernel[slot_of(FamilyId::kConv, direction)] = row_named(kernel, FamilyId::kConv, direction);
  return s;
}

/// The options that conv and conv_dgrad share, in the order of their schemas.
struct Options {
  std::string kernel;
  Extras extras;

  explicit Options(Arguments& next) : kernel(next.string()) {
    extras.scale = next.optional_tensor();
    extras.residual = next.optional_tensor();
    extras.activation = named<Activation>("activation", next.string());
    extras.packed = next.optional_tensor();
  }
};

void boxed_conv(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTtlllvsttst");
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  const Geometry geometry = read_geometry(next);
  const Options options(next);
  stack[0] = result(
      convolution(input, weight, bias, geometry, options.extras, settings_for(options.kernel, Direction::kFprop)));
}

/// torch's dgrad, with a bias if there is one: then by its transposed convolution, which adds it.
Tensor native_dgrad(const Tensor& grad, const Tensor& weight, const Tensor& bias, const Shape& input, const Call& call,
                    Geometry geometry) {
  if (!bias) {
    const Tensor like = empty_strided(input.dim, input.sizes, input.strides, input.dtype, input.device);
    const bool mask[3] = {true, false, false};
    return native_backward(grad, like, weight, nullptr, geometry, mask).input;
  }
  geometry.transposed = true;
  const auto axis = [](const Ints& list, int64_t i) { return list[list.count == 1 ? 0 : i]; };
  geometry.output_padding.count = call.spatial;
  for (int64_t i = 0; i < call.spatial; ++i) {
    const int64_t span = axis(geometry.dilation, i) * (shape_of(weight).sizes[i + 2] - 1) + 1;
    const int64_t least =
        (call.output_sizes[i + 2] - 1) * axis(geometry.stride, i) - 2 * axis(geometry.padding, i) + span;
    geometry.output_padding.values[i] = input.sizes[i + 2] - least;
  }
  return native_convolution(grad, weight, bias, geometry);
}

void boxed_conv_dgrad(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTtllllvsttst");
  const Tensor grad = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  const Ints input_size = next.ints();
  const Geometry geometry = read_geometry(next);
  const Options options(next);
  Operand dy(grad);
  const Shape& given = dy.shape();
  const Ints strides = dense_strides(input_size, suggests_channels_last(given));
  const Shape input{input_size.count, input_size.values, strides.values, given.dtype, given.device};
  Call call;
  if (const char* reason = read_call(input, shape_of(weight), nullptr, geometry, &call))
    refuse(std::string("conv_dgrad: ") + reason);
  if (!has_sizes(given, call.output_sizes)) refuse("conv_dgrad: grad does not have the sizes of conv's output");
  const Call of_conv = call;
  call.output_sizes = input_size;
  call.direction = Direction::kDgrad;
  if (bias && (bias.dim() != 1 || bias.sizes()[0] != input_size[1] || bias.dtype() != call.dtype ||
               bias.device() != call.device))
    refuse("conv_dgrad: bias is not one number per channel of the result, on its device");
  check_epilogue(options.extras, call);
  dy.prefer(layout_of(call));
  Tensor out = forward(call, dy, weight, bias, options.extras, settings_for(options.kernel, Direction::kDgrad));
  if (!out) out = native_dgrad(grad, weight, bias, input, of_conv, geometry);
  stack[0] = result(std::move(out));
}

void boxed_conv_wgrad(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTlllllvs");
  const Tensor grad = next.tensor(), input = next.tensor();
  const Ints weight_size = next.ints(), weight_stride = next.ints();
  const Geometry geometry = read_geometry(next);
  const std::string kernel = next.string();
  Operand dy(grad), x(input);
  if (weight_stride.count != weight_size.count) refuse("conv_wgrad: weight_size and weight_stride differ in length");
  const Shape weight{weight_size.count, weight_size.values, weight_stride.values, x.shape().dtype, x.shape().device};
  Call call;
  if (const char* reason = read_call(x.shape(), weight, nullptr, geometry, &call))
    refuse(std::string("conv_wgrad: ") + reason);
  if (!has_sizes(dy.shape(), call.output_sizes) || dy.shape().dtype != call.dtype || dy.shape().device != call.device)
    refuse("conv_wgrad: grad does not have the sizes, dtype and device of conv's output");
  const Ints strides = gradient_strides(weight);
  dy.prefer(layout_of(call));
  x.prefer(layout_of(call));
  Tensor out = weight_gradient(call, x, dy, weight_size, strides, settings_for(kernel, Direction::kWgrad));
  if (!out) {
    const Tensor like = empty_strided(weight.dim, weight.sizes, strides.values, weight.dtype, weight.device);
    const bool mask[3] = {false, true, false};
    out = with_strides(native_backward(grad, input, like, nullptr, geometry, mask).weight, strides);
  }
  stack[0] = result(std::move(out));
}

void boxed_conv_bias_grad(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor grad = Arguments(stack, "T").tensor();
  Operand dy(grad);
  DType dtype;
  if (dy.shape().dim < 3 || dy.shape().dim > 5 || !dtype_of(dy.shape().dtype, &dtype))
    refuse("conv_bias_grad: grad is not a batch of float16, bfloat16, float32 or float64 images");
  dy.prefer(suggests_channels_last(dy.shape()) ? Layout::kNhwc : Layout::kNchw);
  stack[0] = result(run_bias_grad(dy, dtype));
}

void boxed_conv_pack(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "Tlvlllvss");
  const Tensor weight = next.tensor();
  const Ints input_size = next.ints();
  const bool channels_last = next.boolean();
  const Geometry geometry = read_geometry(next);
  const Direction direction = named<Direction>("direction", next.string());
  const std::string kernel = next.string();
  const Ints strides = dense_strides(input_size, channels_last);
  const Shape weight_shape = shape_of(weight);
  const Shape input{input_size.count, input_size.values, strides.values, weight_shape.dtype, weight_shape.device};
  Call call;
  if (const char* reason = read_call(input, weight_shape, nullptr, geometry, &call)) refuse(reason);
  const ConvPlan plan =
      select<Conv>(direction, problem_of(call, nullptr, nullptr), call.device, settings_for(kernel, direction));
  Tensor packed;
  if (plan.row && direction != Direction::kWgrad && !call.device.cuda) packed = pack_weight(plan, call, weight);
  const int64_t none = 0, one = 1;
  stack[0] =
      result(packed ? std::move(packed) : empty_strided(1, &none, &one, aoti_torch_dtype_uint8(), weight_shape.device));
}

void boxed_conv_choice(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTlllvs");
  const Tensor input = next.tensor(), weight = next.tensor();
  const Geometry geometry = read_geometry(next);
  const Direction direction = named<Direction>("direction", next.string());
  Operand x(input);
  Call call;
  if (const char* reason = read_call(x.shape(), shape_of(weight), nullptr, geometry, &call)) {
    stack[0] = result(std::string("torch: ") + reason);
    return;
  }
  x.prefer(layout_of(call));
  const ConvProblem problem = problem_of(call, &x, nullptr);
  const Settings current = settings();
  const ConvPlan plan = select<Conv>(direction, problem, call.device, current);
  stack[0] =
      result(plan.row ? std::string(plan.row->name)
                      : "torch: no kernel is known to win" + reasons<Conv>(direction, problem, call.device, current));
}

void boxed_short_conv(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTtv");
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  Extras extras;
  extras.throws = true;
  stack[0] = result(convolution(input, weight, bias, geometry_of(next.integer()), extras, settings()));
}

void boxed_conv_packed(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTtvvv");
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  const Geometry& geometry = geometry_of(next.integer());
  if (input.dim() == geometry.stride.count + 1) {  // no batch: as under autocast
    stack[0] = result_or_undefined(Tensor());
    return;
  }
  Extras extras;
  extras.cache.id = next.integer();
  extras.cache.version = next.integer();
  extras.throws = true;
  stack[0] = result(convolution(input, weight, bias, geometry, extras, settings()));
}

/// Under autocast a packed call is not made: a result that is none says so, which costs less than to ask before each.
void boxed_not_under_autocast(StableIValue* stack, uint64_t, uint64_t) {
  {
    const Arguments given(stack, "TTtvvv");
  }
  stack[0] = result_or_undefined(Tensor());
}

void boxed_conv_backward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTTvv");
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
  m.def("_conv_packed(Tensor input, Tensor weight, Tensor? bias, int geometry, int cache, int version=-1) -> Tensor");
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
STABLE_TORCH_LIBRARY_IMPL(fastconv, AutocastCPU, m) { m.impl("_conv_packed", boxed_not_under_autocast); }
STABLE_TORCH_LIBRARY_IMPL(fastconv, AutocastCUDA, m) { m.impl("_conv_packed", boxed_not_under_autocast); }
#if defined(FASTCONV_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fastconv, CUDA, m) { implement(m); }
#endif

}  // namespace
}  // namespace fastconv::binding
