// Average pooling on torch's tensors: under aten::avg_pool2d and its backward, and as torch.ops.fastconv.avg_pool2d and
// avg_pool2d_backward with a kernel named by hand. A call becomes a problem, a row is chosen by how the operand lies,
// and torch's kernel serves where no row is known to win, for unusual arguments and for invalid ones.

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <limits>

#include "pool/pool.h"
#include "torch/install.h"
#include "torch/operand.h"
#include "torch/run_on.h"
#include "torch/select.h"

namespace fastconv::binding {
namespace {

/// The arguments of avg_pool2d after the tensors, as they were given.
struct Pooling {
  Ints window, stride, padding;
  bool ceil_mode = false, count_padding = true, has_divisor = false;
  int64_t divisor = 0;

  explicit Pooling(Arguments& next) : window(next.ints()), stride(next.ints()), padding(next.ints()) {
    ceil_mode = next.boolean();
    count_padding = next.boolean();
    has_divisor = next.optional_integer(&divisor);
  }
  int64_t* divisor_or_null() { return has_divisor ? &divisor : nullptr; }
};

/// One number for both axes, or one each; false for other lists.
bool spread(const Ints& list, int64_t* height, int64_t* width) {
  if (list.count != 1 && list.count != 2) return false;
  *height = list[0], *width = list[list.count - 1];
  return true;
}

/// torch's number of outputs along an axis: rounded up, no window may begin past the image and its padding.
int64_t outputs(int64_t in, int64_t window, int64_t stride, int64_t pad, bool ceil_mode) {
  const int64_t span = in + 2 * pad - window;
  if (span < 0) return 0;
  const int64_t rounded = (span + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  return ceil_mode && (rounded - 1) * stride >= in + pad ? rounded - 1 : rounded;
}

/// A call of aten's, understood: the layouts are left to the operands.
struct PoolCall {
  PoolProblem problem;
  bool channels_last = false;  // torch's memory format of both results
};

/// False for what is torch's to compute or to refuse.
bool read_call(const Shape& input, const Pooling& given, PoolCall* call) {
  PoolProblem& p = call->problem;
  if (input.dim != 4 || !dtype_of(input.dtype, &p.dtype)) return false;
  p.N = input.sizes[0], p.C = input.sizes[1], p.H = input.sizes[2], p.W = input.sizes[3];
  const Ints& stride = given.stride.count ? given.stride : given.window;
  if (!spread(given.window, &p.R, &p.S) || !spread(stride, &p.stride_h, &p.stride_w) ||
      !spread(given.padding, &p.pad_h, &p.pad_w))
    return false;
  if (p.C < 1 || p.H < 1 || p.W < 1 || p.R < 1 || p.S < 1 || p.stride_h < 1 || p.stride_w < 1) return false;
  if (p.pad_h < 0 || p.pad_w < 0 || p.pad_h * 2 > p.R || p.pad_w * 2 > p.S) return false;
  for (const Ints* list : {&given.window, &given.stride, &given.padding})
    for (int64_t i = 0; i < list->count; ++i)
      if (list->values[i] > std::numeric_limits<int32_t>::max()) return false;  // torch refuses
  if (given.has_divisor && given.divisor < 1) return false;
  p.divisor = given.divisor;
  p.count_padding = given.count_padding;
  p.P = outputs(p.H, p.R, p.stride_h, p.pad_h, given.ceil_mode);
  p.Q = outputs(p.W, p.S, p.stride_w, p.pad_w, given.ceil_mode);
  call->channels_last = suggests_channels_last(input);
  return p.P > 0 && p.Q > 0;
}

/// fprop of x or dgrad of dy, `sizes` being the result's; nothing where torch's kernel is to serve.
Tensor pool(Direction direction, const PoolCall& call, Operand& source, const int64_t (&sizes)[4],
            const Settings& settings) {
  const bool fprop = direction == Direction::kFprop;
  const Layout layout = call.channels_last ? Layout::kNhwc : Layout::kNchw;
  const Device device = source.shape().device;
  source.prefer(layout);
  PoolProblem p = call.problem;
  p.x_layout = fprop ? source.layout() : layout;
  p.y_layout = fprop ? layout : source.layout();
  const Plan<Pool> plan = select<Pool>(direction, p, device, settings);
  if (!plan.row) return Tensor();
  Ints extents;
  extents.count = 4;
  std::copy_n(sizes, 4, extents.values);
  const Ints strides = dense_strides(extents, call.channels_last);
  Tensor out = empty_strided(4, sizes, strides.values, source.shape().dtype, device);
  PoolArgs args;
  (fprop ? args.x : args.dy) = source.data();
  args.out = out.data();
  if (run_on(device, plan, p, args)) return out;
  check_may_hand_over(plan, p, settings);
  return Tensor();
}

Tensor native_forward(const Tensor& input, Pooling& given) {
  note_kernel(FamilyId::kPool, Direction::kFprop, nullptr);
  AtenTensorHandle out;
  check(aoti_torch_cpu_avg_pool2d(input.get(), given.window.values, given.window.count, given.stride.values,
                                  given.stride.count, given.padding.values, given.padding.count, given.ceil_mode,
                                  given.count_padding, given.divisor_or_null(), &out));
  return Tensor(out);
}

Tensor forward(const Tensor& input, Pooling& given, const Settings& settings) {
  Operand x(input);
  PoolCall call;
  if (read_call(x.shape(), given, &call)) {
    const PoolProblem& p = call.problem;
    if (Tensor out = pool(Direction::kFprop, call, x, {p.N, p.C, p.P, p.Q}, settings)) return out;
  }
  return native_forward(input, given);
}

Tensor native_backward(const Tensor& grad, const Tensor& input, Pooling& given) {
  note_kernel(FamilyId::kPool, Direction::kDgrad, nullptr);
  AtenTensorHandle out;
  check(aoti_torch_cpu_avg_pool2d_backward(
      grad.get(), input.get(), given.window.values, given.window.count, given.stride.values, given.stride.count,
      given.padding.values, given.padding.count, given.ceil_mode, given.count_padding, given.divisor_or_null(), &out));
  return Tensor(out);
}

Tensor backward(const Tensor& grad, const Tensor& input, Pooling& given, const Settings& settings) {
  Operand dy(grad);
  const Shape shape = shape_of(input);
  PoolCall call;
  if (read_call(shape, given, &call)) {
    const PoolProblem& p = call.problem;
    Ints expected;
    expected.count = 4;
    expected.values[0] = p.N, expected.values[1] = p.C, expected.values[2] = p.P, expected.values[3] = p.Q;
    if (has_sizes(dy.shape(), expected) && dy.shape().dtype == shape.dtype && dy.shape().device == shape.device)
      if (Tensor out = pool(Direction::kDgrad, call, dy, {p.N, p.C, p.H, p.W}, settings)) return out;
  }
  return native_backward(grad, input, given);
}

Settings settings_with(const std::string& kernel, Direction direction) {
  Settings s = settings();
  if (!kernel.empty()) s.kernel[slot_of(FamilyId::kPool, direction)] = row_named(kernel, FamilyId::kPool, direction);
  return s;
}

void boxed_forward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "Tlllvvi");
  const Tensor input = next.tensor();
  Pooling given(next);
  stack[0] = result(enabled() ? forward(input, given, settings()) : native_forward(input, given));
}

void boxed_backward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTlllvvi");
  const Tensor grad = next.tensor(), input = next.tensor();
  Pooling given(next);
  stack[0] = result(enabled() ? backward(grad, input, given, settings()) : native_backward(grad, input, given));
}

void boxed_op(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "Tlllvvis");
  const Tensor input = next.tensor();
  Pooling given(next);
  stack[0] = result(forward(input, given, settings_with(next.string(), Direction::kFprop)));
}

void boxed_op_backward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTlllvvis");
  const Tensor grad = next.tensor(), input = next.tensor();
  Pooling given(next);
  stack[0] = result(backward(grad, input, given, settings_with(next.string(), Direction::kDgrad)));
}

#define FASTCONV_POOLING                                                                    \
  "SymInt[2] kernel_size, SymInt[2] stride=[], SymInt[2] padding=0, bool ceil_mode=False, " \
  "bool count_include_pad=True, SymInt? divisor_override=None, str kernel_name=\"\""

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("avg_pool2d(Tensor input, " FASTCONV_POOLING ") -> Tensor");
  m.def("avg_pool2d_backward(Tensor grad, Tensor input, " FASTCONV_POOLING ") -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) {
  m.impl("avg_pool2d", boxed_op);
  m.impl("avg_pool2d_backward", boxed_op_backward);
}

}  // namespace

template <>
void under_aten<Pool>(torch::stable::detail::StableLibrary& library, const char* key) {
  if (std::strcmp(key, "CPU")) return;  // there are no CUDA kernels
  library.impl("avg_pool2d", boxed_forward);
  library.impl("avg_pool2d_backward", boxed_backward);
}

}  // namespace fastconv::binding
