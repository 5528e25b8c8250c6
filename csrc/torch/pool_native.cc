#include "torch/pool_native.h"

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

namespace fastconv::binding {
namespace {

/// torch's own function for a GPU, which has the type of that for the CPU: libtorch_cuda is not linked.
template <class Function>
Function* for_gpu(Function*, const char* name) {
  if (void* found = torch_symbol(name, "libtorch_cuda.so")) return reinterpret_cast<Function*>(found);
  throw std::runtime_error(std::string("fastconv: this torch has no ") + name);
}

/// torch's own kernel of an op, on the device of the call.
#define FASTCONV_TORCH(op)                                                          \
  (on_gpu ? [] {                                                                    \
    static const auto found = for_gpu(aoti_torch_cpu_##op, "aoti_torch_cuda_" #op); \
    return found;                                                                   \
  }()                                                                               \
          : aoti_torch_cpu_##op)

/// A list as torch's functions take it.
#define FASTCONV_LIST(list) (list).values, (list).count
#define FASTCONV_WINDOWS(given) \
  FASTCONV_LIST((given).window), FASTCONV_LIST((given).stride), FASTCONV_LIST((given).padding)
#define FASTCONV_AVG(given) FASTCONV_WINDOWS(given), (given).ceil_mode, (given).count_padding, (given).divisor_or_null()
#define FASTCONV_MAX(given) FASTCONV_WINDOWS(given), FASTCONV_LIST((given).dilation), (given).ceil_mode

/// The op of the call's axes.
#define FASTCONV_BY_AXES(op, end) (given.axes == 2 ? FASTCONV_TORCH(op##2d##end) : FASTCONV_TORCH(op##3d##end))

}  // namespace

PoolResult native_forward(const Tensor& input, Pooling& given) {
  AtenTensorHandle out = nullptr, index = nullptr;
  const AtenTensorHandle x = input.get();
  const Device device = input.device();
  const bool on_gpu = device.cuda;
  const OnDevice scope(device);
  if (given.mode == PoolMode::kAvg) {
    if (given.adaptive) check(FASTCONV_BY_AXES(_adaptive_avg_pool, )(x, FASTCONV_LIST(given.output), &out));
    else check(FASTCONV_BY_AXES(avg_pool, )(x, FASTCONV_AVG(given), &out));
    return {Tensor(out), Tensor()};
  }
  if (given.adaptive) check(FASTCONV_BY_AXES(adaptive_max_pool, )(x, FASTCONV_LIST(given.output), &out, &index));
  else check(FASTCONV_BY_AXES(max_pool, _with_indices)(x, FASTCONV_MAX(given), &out, &index));
  return {Tensor(out), Tensor(index)};
}

Tensor native_backward(const Tensor& grad, const Tensor& input, const Tensor* indices, Pooling& given) {
  AtenTensorHandle out = nullptr;
  const AtenTensorHandle dy = grad.get(), x = input.get();
  const Device device = grad.device();
  const bool on_gpu = device.cuda;
  const OnDevice scope(device);
  if (given.mode == PoolMode::kAvg) {
    if (given.adaptive) check(FASTCONV_BY_AXES(_adaptive_avg_pool, _backward)(dy, x, &out));
    else check(FASTCONV_BY_AXES(avg_pool, _backward)(dy, x, FASTCONV_AVG(given), &out));
    return Tensor(out);
  }
  if (given.adaptive) check(FASTCONV_BY_AXES(adaptive_max_pool, _backward)(dy, x, indices->get(), &out));
  else check(FASTCONV_BY_AXES(max_pool, _with_indices_backward)(dy, x, FASTCONV_MAX(given), indices->get(), &out));
  return Tensor(out);
}

}  // namespace fastconv::binding
