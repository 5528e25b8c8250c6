#include "torch/run.h"

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "conv/cuda/conv.h"
#include "core/cpu/parallel.h"
#include "core/half.h"
#include "torch/guest.h"

namespace fastconv::binding {
namespace {

int torch_threads() {
  uint32_t count = 1;
  check(torch_get_num_threads(&count));
  return static_cast<int>(count);
}

struct Tasks {
  void (*body)(void*, int64_t);
  void* context;
};

void torch_run(int64_t tasks, void (*body)(void*, int64_t), void* context) {
  Tasks all{body, context};
  check(torch_parallel_for(
      0, tasks, 1,
      [](int64_t begin, int64_t end, void* data) {
        const Tasks& t = *static_cast<Tasks*>(data);
        for (int64_t task = begin; task < end; ++task) t.body(t.context, task);
      },
      &all));
}

/// Whether 16 bytes can be loaded at once, as the CUDA kernels do.
bool is_aligned(const Tensor& tensor) { return reinterpret_cast<uintptr_t>(tensor.data()) % 16 == 0; }

/// A vector of one number per channel in the accumulation type, converted where it is stored in less.
class ChannelVector {
 public:
  ChannelVector(const Tensor& tensor, DType dtype) {
    if (!tensor) return;
    const Shape shape = shape_of(tensor);
    const char* data = static_cast<const char*>(tensor.data());
    const int64_t step = shape.strides[0];
    if (shape.device.cuda) {
      data_ = on_gpu(tensor, shape, dtype);
      return;
    }
    if ((dtype == DType::kFloat32 || dtype == DType::kFloat64) && (step == 1 || shape.sizes[0] == 1)) {
      data_ = data;
      return;
    }
    if (dtype == DType::kFloat64) {
      doubles_.resize(shape.sizes[0]);
      for (size_t i = 0; i < doubles_.size(); ++i)
        doubles_[i] = reinterpret_cast<const double*>(data)[static_cast<int64_t>(i) * step];
      data_ = doubles_.data();
      return;
    }
    floats_.resize(shape.sizes[0]);
    for (size_t i = 0; i < floats_.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) * step;
      if (dtype == DType::kFloat32) floats_[i] = reinterpret_cast<const float*>(data)[at];
      else if (dtype == DType::kBFloat16) floats_[i] = to_float(reinterpret_cast<const BFloat16*>(data)[at]);
      else floats_[i] = to_float(reinterpret_cast<const Float16*>(data)[at]);
    }
    data_ = floats_.data();
  }
  const void* data() const { return data_; }

 private:
  const void* on_gpu(const Tensor& tensor, const Shape& shape, DType dtype) {
    const DType wide = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
    const int64_t one = 1;
    if (dtype == wide && shape.strides[0] == 1 && is_aligned(tensor)) return tensor.data();
    copy_ = empty_strided(1, shape.sizes, &one, torch_dtype_of(wide), shape.device);
    check(aoti_torch_copy_(copy_.get(), tensor.get(), 0));
    return copy_.data();
  }

  const void* data_ = nullptr;
  Tensor copy_;
  std::vector<float> floats_;
  std::vector<double> doubles_;
};

/// On torch's current stream, with a workspace that torch's allocator gives out again in the order of that stream.
void run_on_gpu(const ConvPlan& plan, const ConvProblem& problem, ConvArgs args, const Device& device) {
  if constexpr (kHasCuda) {
    const OnDevice scope(device);
    const int64_t bytes = static_cast<int64_t>(cuda_workspace(plan, problem, args)), one = 1;
    Tensor workspace;
    if (bytes) {
      workspace = empty_strided(1, &bytes, &one, aoti_torch_dtype_uint8(), device);
      args.workspace = workspace.data();
    }
    args.stream = current_stream(device.index);
    run_cuda(plan, problem, args);
  }
}

void run_or_throw(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args, const Device& device) {
  note_kernel(plan.row->direction, plan.row);
  if (device.cuda) return run_on_gpu(plan, problem, args, device);
  if (!run(plan, problem, args))
    throw std::runtime_error(std::string("fastconv: no memory for the workspace of '") + plan.row->name + "' on " +
                             encode(problem));
}

/// Null for an absent tensor, as the C functions want it.
AtenTensorHandle* optional(AtenTensorHandle* handle) { return *handle ? handle : nullptr; }

}  // namespace

void use_torch_threads() { set_thread_pool({torch_threads, torch_run}); }

Operands::Operands(const Call& call, const Tensor* x, const Tensor* y) : problem_(call.problem), given_{x, y} {
  const Layout result = call.channels_last ? Layout::kNhwc : Layout::kNchw;
  problem_.x_layout = problem_.y_layout = result;
  if (x) x_ = place(*x, &problem_.x_layout);
  if (y) y_ = place(*y, &problem_.y_layout);
}

const void* Operands::place(const Tensor& tensor, Layout* layout) {
  const Shape shape = shape_of(tensor);
  if (dense_layout(shape, *layout, layout))
    return !shape.device.cuda || is_aligned(tensor) ? tensor.data() : keep(clone(tensor));
  // Channels last needs four axes or five; a 1-d operand is copied as it stands.
  if (shape.dim == 3) *layout = Layout::kNchw;
  Tensor dense = contiguous(tensor, *layout == Layout::kNhwc);
  return keep(shape.device.cuda && !is_aligned(dense) ? clone(dense) : std::move(dense));
}

const void* Operands::keep(Tensor copy) {
  copies_[count_] = std::move(copy);
  return copies_[count_++].data();
}

Tensor run_forward(const ConvPlan& plan, const Call& call, const Operands& operands, const Tensor& weight,
                   const Tensor& bias, const Extras& extras) {
  const ConvProblem& problem = operands.problem();
  const Ints strides = dense_strides(call.output_sizes, call.channels_last);
  Tensor out =
      empty_strided(call.output_sizes.count, call.output_sizes.values, strides.values, call.dtype, call.device);
  if (is_guest(*plan.row)) {
    note_kernel(plan.row->direction, plan.row);
    const bool fprop = plan.row->direction == Direction::kFprop;
    run_guest_forward(plan, fprop ? operands.x_tensor() : operands.y_tensor(), weight, bias, extras, out);
    return out;
  }
  const ChannelVector scale(extras.scale, problem.dtype), shift(bias, problem.dtype);
  Tensor residual_copy;
  ConvArgs args;
  args.x = operands.x();
  args.dy = operands.y();
  Tensor weight_copy;
  if (call.device.cuda && !is_aligned(weight)) weight_copy = clone(weight);
  const Tensor& w = weight_copy ? weight_copy : weight;
  args.w = filter_of(w.data(), w.strides(), problem, call.spatial);
  args.out = out.data();
  args.epilogue.scale = scale.data();
  args.epilogue.shift = shift.data();
  args.epilogue.activation = extras.activation;
  args.packed = extras.packed;
  if (extras.residual) {
    const Shape shape = shape_of(extras.residual);
    const Layout wanted = call.channels_last ? Layout::kNhwc : Layout::kNchw;
    Layout layout;
    const bool usable = !call.device.cuda || is_aligned(extras.residual);
    if (usable && dense_layout(shape, wanted, &layout) && layout == wanted) {
      args.epilogue.residual = extras.residual.data();
    } else {
      residual_copy = contiguous(extras.residual, call.channels_last);
      if (call.device.cuda && !is_aligned(residual_copy)) residual_copy = clone(residual_copy);
      args.epilogue.residual = residual_copy.data();
    }
  }
  run_or_throw(plan, problem, args, call.device);
  return out;
}

Tensor run_wgrad(const ConvPlan& plan, const Call& call, const Operands& operands, const Ints& sizes,
                 const Ints& strides) {
  Tensor out = empty_strided(sizes.count, sizes.values, strides.values, call.dtype, call.device);
  if (is_guest(*plan.row)) {
    note_kernel(Direction::kWgrad, plan.row);
    run_guest_wgrad(plan, operands.x_tensor(), operands.y_tensor(), out);
    return out;
  }
  ConvArgs args;
  args.x = operands.x();
  args.dy = operands.y();
  args.w = filter_of(out.data(), strides.values, operands.problem(), call.spatial);
  run_or_throw(plan, operands.problem(), args, call.device);
  return out;
}

/// torch's sum over all axes but the second: in float32 for 16-bit numbers, in a fixed order.
Tensor sum_pixels(const Tensor& grad) {
  AtenTensorHandle handle;
  check(aoti_torch_new_tensor_handle(grad.get(), &handle));
  std::vector<int64_t> axes = {0};
  for (int64_t d = 2; d < grad.dim(); ++d) axes.push_back(d);
  const torch::stable::Tensor sum = torch::stable::sum(torch::stable::Tensor(handle), axes);
  AtenTensorHandle out;
  check(aoti_torch_new_tensor_handle(sum.get(), &out));
  return Tensor(out);
}

Tensor run_bias_grad(const Tensor& grad, const Call& call) {
  const Shape shape = shape_of(grad);
  if (shape.device.cuda) return sum_pixels(grad);
  // A problem whose y is `grad`: all that the sum looks at.
  Call sum;
  sum.channels_last = call.channels_last;
  ConvProblem& p = sum.problem;
  p.dtype = call.problem.dtype;
  p.N = shape.sizes[0];
  p.K = shape.sizes[1];
  p.Q = 1;
  for (int64_t d = 2; d < shape.dim; ++d) p.Q *= shape.sizes[d];
  const Operands operands(sum, nullptr, &grad);
  const int64_t one = 1;
  Tensor out = empty_strided(1, &p.K, &one, shape.dtype, shape.device);
  bias_grad(operands.problem(), operands.y(), out.data());
  return out;
}

Ints gradient_strides(const Shape& weight) {
  const Ints sizes = sizes_of(weight);
  Ints strides = sizes;
  for (int64_t d = 0; d < weight.dim; ++d) strides.values[d] = weight.strides[d];
  // Axis after axis, the next is the one whose stride is the number of elements so far.
  int64_t next = 1;
  bool placed[Ints::kMax] = {};
  for (int64_t step = 0; step < weight.dim; ++step) {
    int64_t axis = 0;
    while (axis < weight.dim && (placed[axis] || (sizes[axis] != 1 && strides[axis] != next))) ++axis;
    if (axis == weight.dim) return dense_strides(sizes, false);
    placed[axis] = true;
    next *= sizes[axis];
  }
  return strides;
}

Tensor native_convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& g) {
  note_kernel(g.transposed ? Direction::kDgrad : Direction::kFprop, nullptr);
  AtenTensorHandle bias_handle = bias.get(), out;
  check(aoti_torch_cpu_convolution(input.get(), weight.get(), optional(&bias_handle), g.stride.values, g.stride.count,
                                   g.padding.values, g.padding.count, g.dilation.values, g.dilation.count, g.transposed,
                                   g.output_padding.values, g.output_padding.count, g.groups, &out));
  return Tensor(out);
}

Tensor with_strides(Tensor tensor, const Ints& strides) {
  const Shape shape = shape_of(tensor);
  if (std::equal(shape.strides, shape.strides + shape.dim, strides.values)) return tensor;
  Tensor copy = empty_strided(shape.dim, shape.sizes, strides.values, shape.dtype, shape.device);
  check(aoti_torch_copy_(copy.get(), tensor.get(), 0));
  return copy;
}

Gradients native_backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                          const Geometry& g, const bool (&mask)[3]) {
  if (mask[0]) note_kernel(g.transposed ? Direction::kFprop : Direction::kDgrad, nullptr);
  if (mask[1]) note_kernel(Direction::kWgrad, nullptr);
  const int64_t* sizes = bias_sizes ? bias_sizes->values : nullptr;
  const int32_t wanted[3] = {mask[0], mask[1], mask[2]};
  AtenTensorHandle out[3] = {};
  const OnDevice scope(grad.device());
  check(aoti_torch_cpu_convolution_backward(
      grad.get(), input.get(), weight.get(), bias_sizes ? &sizes : nullptr, bias_sizes ? bias_sizes->count : 0,
      g.stride.values, g.stride.count, g.padding.values, g.padding.count, g.dilation.values, g.dilation.count,
      g.transposed, g.output_padding.values, g.output_padding.count, g.groups, wanted, 3, &out[0], &out[1], &out[2]));
  return {Tensor(out[0]), Tensor(out[1]), Tensor(out[2])};
}

}  // namespace fastconv::binding
