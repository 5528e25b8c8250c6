// Unpooling on torch's tensors: under aten's max_unpool2d and 3d, and as torch.ops.fastconv.max_unpool and its
// backward, of two or three spatial axes, with a kernel named by hand. torch's kernel serves where no row is known to
// win, for unusual arguments and for invalid ones.

#include <algorithm>
#include <cstring>

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include "torch/install.h"
#include "torch/operand.h"
#include "torch/run_on.h"
#include "torch/select.h"
#include "unpool/unpool.h"

namespace fastconv::binding {
namespace {

/// A call, understood: the layouts are left to the operands.
struct UnpoolCall {
  UnpoolProblem problem;
  Ints y_sizes;
};

/// False for what is torch's to compute or to refuse. `small` has the extents of x.
bool read_call(const Shape& small, const Ints& output, const Shape& indices, UnpoolCall* call) {
  UnpoolProblem& p = call->problem;
  const int64_t axes = small.dim - 2;
  if ((axes != 2 && axes != 3) || output.count != axes || !dtype_of(small.dtype, &p.dtype)) return false;
  if (indices.dtype != aoti_torch_dtype_int64() || indices.device != small.device) return false;
  if (!has_sizes(indices, sizes_of(small))) return false;
  p.N = small.sizes[0], p.C = small.sizes[1];
  spread(small.sizes + 2, axes, &p.D, &p.H, &p.W);
  spread(output.values, axes, &p.Z, &p.P, &p.Q);
  for (const int64_t extent : {p.C, p.D, p.H, p.W, p.Z, p.P, p.Q})
    if (extent < 1) return false;
  call->y_sizes = sizes_of(small);
  std::copy_n(output.values, axes, call->y_sizes.values + 2);
  return true;
}

[[noreturn]] void refuse_index(int64_t index, const Ints& sizes) {
  std::string volume;
  for (int64_t i = 2; i < sizes.count; ++i) volume += (i > 2 ? "x" : "") + std::to_string(sizes[i]);
  throw std::runtime_error("fastconv: Found an invalid max index: " + std::to_string(index) +
                           " in indices (output volumes are of size " + volume + ")");
}

/// What a call makes; `out` is empty where torch's kernel is to serve.
struct Made {
  Tensor out;
  StrayIndex stray;
};

/// By a row of ours: `given` is x or dy, and the result has `sizes`.
Made run_row(UnpoolProblem p, Direction direction, Operand& given, Operand& index, const Ints& sizes,
             bool channels_last, const Settings& settings, bool must_run) {
  const Layout layout = channels_last ? Layout::kNhwc : Layout::kNchw;
  const bool forward = direction == Direction::kFprop;
  const Device device = given.shape().device;
  given.prefer(layout);
  p.x_layout = forward ? given.layout() : layout;
  p.y_layout = forward ? layout : given.layout();
  Made made;
  const Plan<Unpool> plan = select<Unpool>(direction, p, device, settings, must_run);
  if (!plan.row) return made;
  const Ints strides = dense_strides(sizes, channels_last);
  Tensor out = empty_strided(sizes.count, sizes.values, strides.values, given.shape().dtype, device);
  index.force(p.x_layout);
  UnpoolArgs args;
  (forward ? args.x : args.dy) = given.data();
  args.index = index.data();
  args.out = out.data();
  args.stray = &made.stray;
  if (run_on(device, plan, p, args)) made.out = std::move(out);
  else check_may_hand_over(plan, p, settings);
  return made;
}

Made run_forward(const UnpoolCall& call, Operand& x, Operand& index, const Settings& settings, bool must_run) {
  // torch's result of three axes is never channels last.
  const bool channels_last = call.y_sizes.count == 4 && suggests_channels_last(x.shape());
  return run_row(call.problem, Direction::kFprop, x, index, call.y_sizes, channels_last, settings, must_run);
}

/// The arguments after the tensors; of three axes aten's have stride and padding, which the result does not depend on.
struct Unpooling {
  int64_t axes;
  Ints output, stride = {}, padding = {};

  bool is_usual() const {
    if (axes == 2) return true;
    return stride.count == 3 && padding.count == 3 && std::min({stride[0], stride[1], stride[2]}) > 0;
  }
};

Tensor native_forward(const Tensor& x, const Tensor& indices, const Unpooling& given) {
  AtenTensorHandle out = nullptr;
  if (given.axes == 2)
    check(aoti_torch_cpu_max_unpool2d(x.get(), indices.get(), given.output.values, given.output.count, &out));
  else
    check(aoti_torch_cpu_max_unpool3d(x.get(), indices.get(), given.output.values, given.output.count,
                                      given.stride.values, given.stride.count, given.padding.values,
                                      given.padding.count, &out));
  return Tensor(out);
}

template <int64_t kAxes>
void boxed_aten(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, kAxes == 2 ? "TTl" : "TTlll");
  const Tensor input = next.tensor(), indices = next.tensor();
  Unpooling given{kAxes, next.ints()};
  if (kAxes == 3) given.stride = next.ints(), given.padding = next.ints();
  if (enabled() && given.is_usual()) {
    Operand x(input), index(indices);
    UnpoolCall call;
    if (x.shape().dim == kAxes + 2 && read_call(x.shape(), given.output, index.shape(), &call)) {
      Made made = run_forward(call, x, index, settings(), false);
      if (made.out && !made.stray.found) {
        stack[0] = result(std::move(made.out));
        return;
      }
    }
  }
  note_kernel(FamilyId::kUnpool, Direction::kFprop, nullptr);
  stack[0] = result(native_forward(input, indices, given));  // of an index outside torch's error
}

// Ops of our own: what they are asked for they compute, by a row of ours or by torch's kernel.

Settings settings_with(const std::string& kernel, Direction direction) {
  Settings s = settings();
  if (!kernel.empty())
    s.kernel[slot_of(FamilyId::kUnpool, direction)] = row_named(kernel, FamilyId::kUnpool, direction);
  return s;
}

void boxed_op(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTls");
  const Tensor input = next.tensor(), indices = next.tensor();
  Operand x(input), index(indices);
  const Unpooling given{x.shape().dim - 2, next.ints(), {3, {1, 1, 1}}, {3, {0, 0, 0}}};
  const Settings settings = settings_with(next.string(), Direction::kFprop);
  UnpoolCall call;
  Made made;
  if (read_call(x.shape(), given.output, index.shape(), &call)) made = run_forward(call, x, index, settings, false);
  if (made.stray.found) refuse_index(made.stray.value, call.y_sizes);
  if (!made.out) {
    note_kernel(FamilyId::kUnpool, Direction::kFprop, nullptr);
    made.out = native_forward(input, indices, given);
  }
  stack[0] = result(std::move(made.out));
}

/// torch has no kernel for it but a gather, so that ours runs whatever it costs. The result is contiguous, as torch's.
void boxed_op_backward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTs");
  const Tensor grad = next.tensor(), indices = next.tensor();
  const Settings settings = settings_with(next.string(), Direction::kDgrad);
  Operand dy(grad), index(indices);
  Shape small = index.shape();
  small.dtype = dy.shape().dtype;
  Ints output;
  output.count = small.dim - 2;
  for (int64_t i = 2; i < dy.shape().dim && i < 5; ++i) output.values[i - 2] = dy.shape().sizes[i];
  UnpoolCall call;
  if (!read_call(small, output, index.shape(), &call) || !has_sizes(dy.shape(), call.y_sizes) ||
      dy.shape().device != small.device)
    throw std::runtime_error(
        "fastconv: max_unpool_backward takes grad [N, C, ...] of two or three spatial axes and int64 indices with as "
        "many images, channels and axes");
  Made made = run_row(call.problem, Direction::kDgrad, dy, index, sizes_of(small), false, settings, true);
  if (made.stray.found) refuse_index(made.stray.value, call.y_sizes);
  if (!made.out) throw std::runtime_error("fastconv: no memory for the workspace of max_unpool_backward");
  stack[0] = result(std::move(made.out));
}

STABLE_TORCH_LIBRARY_FRAGMENT(fastconv, m) {
  m.def("max_unpool(Tensor input, Tensor indices, SymInt[] output_size, str kernel_name=\"\") -> Tensor");
  m.def("max_unpool_backward(Tensor grad, Tensor indices, str kernel_name=\"\") -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(fastconv, CPU, m) {
  m.impl("max_unpool", boxed_op);
  m.impl("max_unpool_backward", boxed_op_backward);
}

}  // namespace

template <>
void under_aten<Unpool>(torch::stable::detail::StableLibrary& library, const char* key) {
  if (std::strcmp(key, "CPU")) return;  // there are no CUDA kernels
  library.impl("max_unpool2d", boxed_aten<2>);
  library.impl("max_unpool3d", boxed_aten<3>);
}

}  // namespace fastconv::binding
