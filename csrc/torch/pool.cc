// Pooling on torch's tensors: under aten's ops and their backwards, and as torch.ops.fastconv.avg_pool, max_pool,
// adaptive_avg_pool, adaptive_max_pool and their backwards, of two or three spatial axes, with a kernel named by hand.
// A call becomes a problem, a row is chosen by how the operands lie, and torch's kernel serves where no row is known to
// win, for unusual arguments and for invalid ones. stochastic_pool and sub_sample, which torch does not have, are ours
// whatever they cost; the first one's gradient is max_pool's.

#include "torch/install.h"
#include "torch/pool_call.h"
#include "torch/pool_external.h"
#include "torch/pool_native.h"
#include "torch/run_on.h"
#include "torch/select.h"
#include "torch/words.h"

namespace fastconv::binding {
namespace {

Tensor empty_like(const Ints& sizes, bool channels_last, int32_t dtype, const Device& device) {
  const Ints strides = dense_strides(sizes, channels_last);
  return empty_strided(sizes.count, sizes.values, strides.values, dtype, device);
}

int32_t torch_index_type(IndexType type) {
  return type == IndexType::kInt64 ? aoti_torch_dtype_int64() : aoti_torch_dtype_uint8();
}

/// fprop of x; nothing where torch's kernel is to serve. `args` has what the call reads beside x.
PoolResult run_forward(const PoolCall& call, Operand& x, const Settings& settings, bool indexed, bool must_run,
                       PoolArgs args = {}) {
  const Layout layout = call.channels_last ? Layout::kNhwc : Layout::kNchw;
  const Device device = x.shape().device;
  x.prefer(layout);
  PoolProblem p = call.problem;
  p.x_layout = x.layout();
  p.y_layout = layout;
  const Plan<Pool> plan = select<Pool>(Direction::kFprop, p, device, settings, must_run);
  if (!plan.row) return {};
  PoolResult result{empty_like(call.y_sizes, call.channels_last, x.shape().dtype, device), Tensor()};
  if (p.mode != PoolMode::kAvg) {
    const Ints sizes = indexed ? call.y_sizes : Ints{1, {0}};
    result.index = empty_like(sizes, call.channels_last && indexed, torch_index_type(p.index), device);
    if (indexed) args.index = result.index.data();
  }
  if (is_external(*plan.row)) {
    run_external_pool(plan, x.tensor(), args.index ? &result.index : nullptr, result.out);
    return result;
  }
  args.x = x.data();
  args.out = result.out.data();
  if (run_on(device, plan, p, args)) return result;
  check_may_hand_over(plan, p, settings);
  return {};
}

/// dgrad of dy, `index` being null for a mean; nothing where torch's kernel is to serve.
Tensor run_backward(const PoolCall& call, Operand& dy, Operand* index, const Settings& settings, bool must_run) {
  const Layout layout = call.channels_last ? Layout::kNhwc : Layout::kNchw;
  const Device device = dy.shape().device;
  dy.prefer(layout);
  PoolProblem p = call.problem;
  p.x_layout = layout;
  p.y_layout = dy.layout();
  const Plan<Pool> plan = select<Pool>(Direction::kDgrad, p, device, settings, must_run);
  if (!plan.row) return Tensor();
  Tensor dx = empty_like(call.x_sizes, call.channels_last, dy.shape().dtype, device);
  if (is_external(*plan.row)) {
    run_external_pool(plan, dy.tensor(), index ? &index->tensor() : nullptr, dx);
    return dx;
  }
  PoolArgs args;
  args.dy = dy.data();
  args.out = dx.data();
  if (index) {
    index->force(p.y_layout);
    args.index = const_cast<void*>(index->data());
  }
  if (run_on(device, plan, p, args)) return dx;
  check_may_hand_over(plan, p, settings);
  return Tensor();
}

Pooling pooling_of(PoolMode mode, bool adaptive, int64_t axes) {
  Pooling given;
  given.mode = mode;
  given.adaptive = adaptive;
  given.axes = axes;
  return given;
}

bool is_like(const Shape& shape, const Ints& sizes, int32_t dtype, const Device& device) {
  return has_sizes(shape, sizes) && shape.dtype == dtype && shape.device == device;
}

// Under aten.

PoolResult forward(const Tensor& input, Pooling& given) {
  Operand x(input);
  PoolCall call;
  if (enabled() && read_call(x.shape(), given, &call))
    if (PoolResult result = run_forward(call, x, settings(), true, false); result.out) return result;
  note_kernel(FamilyId::kPool, Direction::kFprop, nullptr);
  return native_forward(input, given);
}

Tensor backward(const Tensor& grad, const Tensor& input, const Tensor* indices, Pooling& given) {
  if (enabled()) {
    Operand dy(grad);
    const Shape shape = shape_of(input);
    PoolCall call;
    if (given.adaptive && dy.shape().dim == given.axes + 2) {
      given.output.count = given.axes;
      std::copy_n(dy.shape().sizes + 2, given.axes, given.output.values);
    }
    if (read_call(shape, given, &call) && !is_integer(call.problem.dtype) &&
        is_like(dy.shape(), call.y_sizes, shape.dtype, shape.device)) {
      Tensor dx;
      if (!indices) dx = run_backward(call, dy, nullptr, settings(), false);
      else if (Operand index(*indices); is_like(index.shape(), call.y_sizes, aoti_torch_dtype_int64(), shape.device))
        dx = run_backward(call, dy, &index, settings(), false);
      if (dx) return dx;
    }
  }
  note_kernel(FamilyId::kPool, Direction::kDgrad, nullptr);
  return native_backward(grad, input, indices, given);
}

template <PoolMode kMode, bool kAdaptive, int64_t kAxes>
void boxed_forward(StableIValue* stack, uint64_t, uint64_t) {
  constexpr bool kMax = kMode == PoolMode::kMax;
  Arguments next(stack, kAdaptive ? "Tl" : kMax ? "Tllllv" : "Tlllvvi");
  const Tensor input = next.tensor();
  Pooling given = pooling_of(kMode, kAdaptive, kAxes);
  given.read(next);
  PoolResult made = forward(input, given);
  stack[0] = result(std::move(made.out));
  if (kMax) stack[1] = result(std::move(made.index));
}

template <PoolMode kMode, bool kAdaptive, int64_t kAxes>
void boxed_backward(StableIValue* stack, uint64_t, uint64_t) {
  constexpr bool kMax = kMode == PoolMode::kMax;
  Arguments next(stack, kAdaptive ? (kMax ? "TTT" : "TT") : kMax ? "TTllllvT" : "TTlllvvi");
  const Tensor grad = next.tensor(), input = next.tensor();
  Pooling given = pooling_of(kMode, kAdaptive, kAxes);
  if (!kAdaptive) given.read(next);
  const Tensor index = kMax ? next.tensor() : Tensor();
  stack[0] = result(backward(grad, input, kMax ? &index : nullptr, given));
}

// Ops of our own: what they are asked for they compute, by a row of ours or by torch's kernel.

Settings settings_with(const std::string& kernel, Direction direction) {
  Settings s = settings();
  if (!kernel.empty()) s.kernel[slot_of(FamilyId::kPool, direction)] = row_named(kernel, FamilyId::kPool, direction);
  return s;
}

/// The argument `index`: i64, u8, or none.
void read_index(const std::string& name, Pooling* given) {
  given->indexed = name != "none";
  if (given->indexed) given->index = named<IndexType>("index", name);
}

template <PoolMode kMode, bool kAdaptive>
void boxed_op(StableIValue* stack, uint64_t, uint64_t) {
  constexpr bool kMax = kMode == PoolMode::kMax;
  Arguments next(stack, kAdaptive ? "Tls" : kMax ? "Tllllvss" : "Tlllvvis");
  const Tensor input = next.tensor();
  Pooling given = pooling_of(kMode, kAdaptive, input.dim() - 2);
  given.read(next);
  if (kMax && !kAdaptive) read_index(next.string(), &given);
  const Settings settings = settings_with(next.string(), Direction::kFprop);
  Operand x(input);
  PoolCall call;
  PoolResult made;
  // torch has no indices of one byte.
  if (read_call(x.shape(), given, &call))
    made = run_forward(call, x, settings, given.indexed, given.index == IndexType::kUInt8);
  if (!made.out) {
    note_kernel(FamilyId::kPool, Direction::kFprop, nullptr);
    made = native_forward(input, given);  // of invalid arguments torch's error
    if (given.index == IndexType::kUInt8)
      throw std::runtime_error("max_pool: torch's kernel computes these arguments, without indices of one byte");
  }
  stack[0] = result(std::move(made.out));
  if (kMax) stack[1] = result(std::move(made.index));
}

/// grad, for a maximum its indices, the sizes of the input and whether it is channels last.
template <PoolMode kMode, bool kAdaptive>
void boxed_op_backward(StableIValue* stack, uint64_t, uint64_t) {
  constexpr bool kMax = kMode == PoolMode::kMax;
  Arguments next(stack, kAdaptive ? (kMax ? "TTlvs" : "Tlvs") : kMax ? "TTlvllllvs" : "Tlvlllvvis");
  const Tensor grad = next.tensor(), indices = kMax ? next.tensor() : Tensor();
  const Ints sizes = next.ints();
  const bool channels_last = next.boolean();
  Operand dy(grad);
  Pooling given = pooling_of(kMode, kAdaptive, sizes.count - 2);
  if (!kAdaptive) given.read(next);
  else {
    given.output.count = given.axes;
    for (int64_t i = 0; i < given.axes && i + 2 < dy.shape().dim; ++i) given.output.values[i] = dy.shape().sizes[2 + i];
  }
  const Settings settings = settings_with(next.string(), Direction::kDgrad);
  const Ints strides = dense_strides(sizes, channels_last);
  const Shape input{sizes.count, sizes.values, strides.values, dy.shape().dtype, dy.shape().device};
  std::optional<Operand> index;
  if (kMax) index.emplace(indices);
  if (index && index->shape().dtype == aoti_torch_dtype_uint8()) given.index = IndexType::kUInt8;
  PoolCall call;
  Tensor dx;
  if (read_call(input, given, &call) && !is_integer(call.problem.dtype) &&
      is_like(dy.shape(), call.y_sizes, input.dtype, input.device) &&
      (!index || is_like(index->shape(), call.y_sizes, torch_index_type(given.index), input.device)))
    dx = run_backward(call, dy, index ? &*index : nullptr, settings, given.index == IndexType::kUInt8);
  if (!dx && given.index == IndexType::kUInt8)
    throw std::runtime_error("max_pool_backward: indices of one byte do not fit these arguments");
  if (!dx) {
    note_kernel(FamilyId::kPool, Direction::kDgrad, nullptr);
    // torch's kernels want the input for its sizes and strides.
    const Tensor x = empty_like(sizes, channels_last, input.dtype, input.device);
    dx = native_backward(grad, x, kMax ? &indices : nullptr, given);
  }
  stack[0] = result(std::move(dx));
}

[[noreturn]] void refuse(const char* op, const char* why) {
  throw std::runtime_error(std::string("fastconv: ") + op + " " + why);
}

/// A sample of each window, by a number of `uniform`, which is as the output is; and its indices.
void boxed_stochastic(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTlllss");
  const Tensor input = next.tensor(), uniform = next.tensor();
  Operand x(input), u(uniform);
  Pooling given = pooling_of(PoolMode::kSto, false, x.shape().dim - 2);
  given.window = next.ints(), given.stride = next.ints(), given.padding = next.ints();
  read_index(next.string(), &given);
  const Settings settings = settings_with(next.string(), Direction::kFprop);
  PoolCall call;
  if (!read_call(x.shape(), given, &call))
    refuse("stochastic_pool", "takes input [N, C, ...] of two or three spatial axes and windows that fit into it");
  if (!is_like(u.shape(), call.y_sizes, x.shape().dtype, x.shape().device))
    refuse("stochastic_pool", "takes uniform of the output's sizes and the input's dtype and device");
  u.force(call.channels_last ? Layout::kNhwc : Layout::kNchw);
  PoolArgs more;
  more.uniform = u.data();
  PoolResult made = run_forward(call, x, settings, given.indexed, true, more);
  stack[0] = result(std::move(made.out));
  stack[1] = result(std::move(made.index));
}

/// Whether the tensor is one number a channel, of the type of the sums of `dtype`.
bool is_per_channel(const Shape& shape, const PoolProblem& p, const Device& device) {
  const DType sums = p.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  return shape.dim == 1 && shape.sizes[0] == p.C && (shape.strides[0] == 1 || p.C == 1) &&
         shape.dtype == torch_dtype_of(sums) && shape.device == device;
}

/// The sum of each window, times a weight a channel, plus a bias: the mean by a divisor of 1, and its epilogue.
void boxed_sub_sample(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTTlls");
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.tensor();
  Operand x(input);
  Pooling given = pooling_of(PoolMode::kAvg, false, x.shape().dim - 2);
  given.window = next.ints(), given.stride = next.ints(), given.padding = Ints{1, {0}};
  given.has_divisor = true, given.divisor = 1;
  const Settings settings = settings_with(next.string(), Direction::kFprop);
  PoolCall call;
  if (!read_call(x.shape(), given, &call))
    refuse("sub_sample", "takes input [N, C, ...] of two or three spatial axes and windows that fit into it");
  const Device device = x.shape().device;
  if (!is_per_channel(shape_of(weight), call.problem, device) || !is_per_channel(shape_of(bias), call.problem, device))
    refuse("sub_sample", "takes weight and bias [C], contiguous, float64 for float64 and else float32");
  PoolArgs more;
  more.epilogue.scale = weight.data(), more.epilogue.shift = bias.data();
  stack[0] = result(run_forward(call, x, settings, false, true, more).out);
}

#define FASTCONV_AVG                                                                      \
  "SymInt[] kernel_size, SymInt[] stride=[], SymInt[] padding=[], bool ceil_mode=False, " \
  "bool count_include_pad=True, SymInt? divisor_override=None, str kernel_name=\"\""
#define FASTCONV_MAX "SymInt[] kernel_size, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool ceil_mode, "
#define FASTCONV_INPUT "SymInt[] input_size, bool channels_last, "

/// The public op, and the same under a name with `_`, for which no derivative and no fake is registered: who calls it
/// has seen to both, and saves what the dispatcher takes for them.
template <class Library>
void define(Library& m, const std::string& name, const char* signature) {
  m.def((name + signature).c_str());
  m.def(("_" + name + signature).c_str());
}

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  define(m, "avg_pool", "(Tensor input, " FASTCONV_AVG ") -> Tensor");
  define(m, "avg_pool_backward", "(Tensor grad, " FASTCONV_INPUT FASTCONV_AVG ") -> Tensor");
  define(m, "max_pool", "(Tensor input, " FASTCONV_MAX "str index=\"i64\", str kernel_name=\"\") -> (Tensor, Tensor)");
  define(m, "max_pool_backward",
         "(Tensor grad, Tensor index, " FASTCONV_INPUT FASTCONV_MAX "str kernel_name=\"\") -> Tensor");
  define(m, "adaptive_avg_pool", "(Tensor input, SymInt[] output_size, str kernel_name=\"\") -> Tensor");
  define(m, "adaptive_avg_pool_backward", "(Tensor grad, " FASTCONV_INPUT "str kernel_name=\"\") -> Tensor");
  define(m, "adaptive_max_pool", "(Tensor input, SymInt[] output_size, str kernel_name=\"\") -> (Tensor, Tensor)");
  define(m, "adaptive_max_pool_backward",
         "(Tensor grad, Tensor index, " FASTCONV_INPUT "str kernel_name=\"\") -> Tensor");
  m.def(
      "stochastic_pool(Tensor input, Tensor uniform, SymInt[] kernel_size, SymInt[] stride, SymInt[] padding, "
      "str index=\"i64\", str kernel_name=\"\") -> (Tensor, Tensor)");
  m.def(
      "sub_sample(Tensor input, Tensor weight, Tensor bias, SymInt[] kernel_size, SymInt[] stride, "
      "str kernel_name=\"\") -> Tensor");
}

template <PoolMode kMode, bool kAdaptive, class Library>
void implement(Library& m, const std::string& name) {
  for (const std::string& op : {name, "_" + name}) {
    m.impl(op.c_str(), boxed_op<kMode, kAdaptive>);
    m.impl((op + "_backward").c_str(), boxed_op_backward<kMode, kAdaptive>);
  }
}

template <class Library>
void implement_all(Library& m) {
  implement<PoolMode::kAvg, false>(m, "avg_pool");
  implement<PoolMode::kMax, false>(m, "max_pool");
  implement<PoolMode::kAvg, true>(m, "adaptive_avg_pool");
  implement<PoolMode::kMax, true>(m, "adaptive_max_pool");
  m.impl("stochastic_pool", boxed_stochastic);
  m.impl("sub_sample", boxed_sub_sample);
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) { implement_all(m); }
#if defined(FASTCONV_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fastconv, CUDA, m) { implement_all(m); }
#endif

}  // namespace

template <>
void under_aten<Pool>(torch::stable::detail::StableLibrary& library, const char*) {
  library.impl("avg_pool2d", boxed_forward<PoolMode::kAvg, false, 2>);
  library.impl("avg_pool2d_backward", boxed_backward<PoolMode::kAvg, false, 2>);
  library.impl("avg_pool3d", boxed_forward<PoolMode::kAvg, false, 3>);
  library.impl("avg_pool3d_backward", boxed_backward<PoolMode::kAvg, false, 3>);
  library.impl("max_pool2d_with_indices", boxed_forward<PoolMode::kMax, false, 2>);
  library.impl("max_pool2d_with_indices_backward", boxed_backward<PoolMode::kMax, false, 2>);
  library.impl("max_pool3d_with_indices", boxed_forward<PoolMode::kMax, false, 3>);
  library.impl("max_pool3d_with_indices_backward", boxed_backward<PoolMode::kMax, false, 3>);
  library.impl("_adaptive_avg_pool2d", boxed_forward<PoolMode::kAvg, true, 2>);
  library.impl("_adaptive_avg_pool2d_backward", boxed_backward<PoolMode::kAvg, true, 2>);
  library.impl("_adaptive_avg_pool3d", boxed_forward<PoolMode::kAvg, true, 3>);
  library.impl("_adaptive_avg_pool3d_backward", boxed_backward<PoolMode::kAvg, true, 3>);
  library.impl("adaptive_max_pool2d", boxed_forward<PoolMode::kMax, true, 2>);
  library.impl("adaptive_max_pool2d_backward", boxed_backward<PoolMode::kMax, true, 2>);
  library.impl("adaptive_max_pool3d", boxed_forward<PoolMode::kMax, true, 3>);
  library.impl("adaptive_max_pool3d_backward", boxed_backward<PoolMode::kMax, true, 3>);
}

}  // namespace fastconv::binding
