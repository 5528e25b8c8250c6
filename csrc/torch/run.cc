#include "torch/run.h"

#include <algorithm>
#include <vector>

#include "conv/bias_grad.h"
#include "core/cpu/parallel.h"
#include "core/half.h"
#include "torch/native.h"
#include "torch/run_on.h"

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

void run_external_forward(const ConvPlan& plan, const Tensor& source, const Tensor& weight, const Tensor& bias,
                          const Extras& extras, const Tensor& out) {
  StableIValue stack[9] = {lend(source),
                           lend(weight),
                           lend_optional(bias),
                           lend_optional(extras.scale),
                           lend_optional(extras.residual),
                           lend(out),
                           result(encode(plan.problem)),
                           result(std::string(plan.row->name)),
                           result(std::string(name_of(extras.activation)))};
  check(torch_call_dispatcher("fastconv::_external_conv", "", stack, TORCH_ABI_VERSION));
}

void run_external_wgrad(const ConvPlan& plan, const Tensor& x, const Tensor& dy, const Tensor& out) {
  StableIValue stack[5] = {lend(x), lend(dy), lend(out), result(encode(plan.problem)),
                           result(std::string(plan.row->name))};
  check(torch_call_dispatcher("fastconv::_external_conv_wgrad", "", stack, TORCH_ABI_VERSION));
}

}  // namespace

void use_torch_threads() { set_thread_pool({torch_threads, torch_run}); }

Tensor run_forward(const ConvPlan& plan, const ConvProblem& problem, const Call& call, Operand& source,
                   const Tensor& weight, const Tensor& bias, const Extras& extras, const void* packed) {
  const bool fprop = plan.row->direction == Direction::kFprop, on_gpu = call.device.cuda;
  const Ints strides = dense_strides(call.output_sizes, call.channels_last);
  Tensor out =
      empty_strided(call.output_sizes.count, call.output_sizes.values, strides.values, call.dtype, call.device);
  if (is_external(*plan.row)) {
    note_kernel(FamilyId::kConv, plan.row->direction, plan.row);
    run_external_forward(plan, source.tensor(), weight, bias, extras, out);
    return out;
  }
  const ChannelVector scale(extras.scale, problem.dtype), shift(bias, problem.dtype);
  Tensor residual_copy, weight_copy;
  if (on_gpu && !is_aligned(weight)) weight_copy = clone(weight);
  const Tensor& w = weight_copy ? weight_copy : weight;
  ConvArgs args;
  (fprop ? args.x : args.dy) = source.data();
  args.w = filter_of(w.data(), w.strides(), problem, call.spatial);
  args.out = out.data();
  args.epilogue.scale = scale.data();
  args.epilogue.shift = shift.data();
  args.epilogue.activation = extras.activation;
  args.packed = packed;
  if (extras.residual) {
    Layout layout;
    const bool lies_right = dense_layout(shape_of(extras.residual), layout_of(call), &layout) &&
                            layout == layout_of(call) && (!on_gpu || is_aligned(extras.residual));
    if (!lies_right) residual_copy = dense(extras.residual, call.channels_last);
    args.epilogue.residual = (lies_right ? extras.residual : residual_copy).data();
  }
  return run_on(call.device, plan, problem, args) ? std::move(out) : Tensor();
}

Tensor run_wgrad(const ConvPlan& plan, const ConvProblem& problem, const Call& call, Operand& x, Operand& dy,
                 const Ints& sizes, const Ints& strides) {
  Tensor out = empty_strided(sizes.count, sizes.values, strides.values, call.dtype, call.device);
  if (is_external(*plan.row)) {
    note_kernel(FamilyId::kConv, Direction::kWgrad, plan.row);
    run_external_wgrad(plan, x.tensor(), dy.tensor(), out);
    return out;
  }
  ConvArgs args;
  args.x = x.data();
  args.dy = dy.data();
  args.w = filter_of(out.data(), strides.values, problem, call.spatial);
  return run_on(call.device, plan, problem, args) ? std::move(out) : Tensor();
}

Tensor run_bias_grad(Operand& grad, DType dtype) {
  const Shape& shape = grad.shape();
  if (shape.device.cuda) return sum_pixels(grad.tensor());
  // A problem whose y is `grad`: all that the sum looks at.
  ConvProblem p;
  p.dtype = dtype;
  p.y_layout = grad.layout();
  p.N = shape.sizes[0];
  p.K = shape.sizes[1];
  for (int64_t d = 2; d < shape.dim; ++d) p.Q *= shape.sizes[d];
  const int64_t one = 1;
  Tensor out = empty_strided(1, &p.K, &one, shape.dtype, shape.device);
  bias_grad(p, grad.data(), out.data());
  return out;
}

bool is_dense(const Shape& shape) {
  // Axis after axis, the next is the one whose stride is the number of elements so far.
  int64_t next = 1;
  bool placed[Ints::kMax] = {};
  for (int64_t step = 0; step < shape.dim; ++step) {
    int64_t axis = 0;
    while (axis < shape.dim && (placed[axis] || (shape.sizes[axis] != 1 && shape.strides[axis] != next))) ++axis;
    if (axis == shape.dim) return false;
    placed[axis] = true;
    next *= shape.sizes[axis];
  }
  return true;
}

Ints gradient_strides(const Shape& weight) {
  Ints strides = sizes_of(weight);
  if (!is_dense(weight)) return dense_strides(strides, false);
  std::copy_n(weight.strides, weight.dim, strides.values);
  return strides;
}

}  // namespace fastconv::binding
