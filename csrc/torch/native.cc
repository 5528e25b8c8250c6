#include "torch/native.h"

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "torch/state.h"

namespace fastconv::binding {
namespace {

/// Null for an absent tensor, as the C functions want it.
AtenTensorHandle* optional(AtenTensorHandle* handle) { return *handle ? handle : nullptr; }

/// torch::jit::tracer::getTracingState(): a reference to the thread's shared pointer, whose first word is null while
/// nothing is traced. The stable ABI does not have it; the name has not changed since torch 1.2.
using TracingState = void* const& (*)();
TracingState tracing_state() {
  static const auto found =
      reinterpret_cast<TracingState>(torch_symbol("_ZN5torch3jit6tracer15getTracingStateEv", "libtorch_cpu.so"));
  return found;
}

}  // namespace

bool knows_tracing() { return tracing_state() != nullptr; }
bool is_tracing() {
  const TracingState state = tracing_state();
  return state && state() != nullptr;
}

Tensor native_convolution(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& g) {
  note_kernel(FamilyId::kConv, g.transposed ? Direction::kDgrad : Direction::kFprop, nullptr);
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

Gradients native_backward(const Tensor& grad, const Tensor& input, const Tensor& weight, const Ints* bias_sizes,
                          const Geometry& g, const bool (&mask)[3]) {
  if (mask[0]) note_kernel(FamilyId::kConv, g.transposed ? Direction::kFprop : Direction::kDgrad, nullptr);
  if (mask[1]) note_kernel(FamilyId::kConv, Direction::kWgrad, nullptr);
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
