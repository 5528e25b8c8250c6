#include "torch/pool_native.h"

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

namespace fastconv::binding {
namespace {

/// A list as torch's functions take it.
#define FASTCONV_LIST(list) (list).values, (list).count
#define FASTCONV_WINDOWS(given) \
  FASTCONV_LIST((given).window), FASTCONV_LIST((given).stride), FASTCONV_LIST((given).padding)
#define FASTCONV_AVG(given) FASTCONV_WINDOWS(given), (given).ceil_mode, (given).count_padding, (given).divisor_or_null()
#define FASTCONV_MAX(given) FASTCONV_WINDOWS(given), FASTCONV_LIST((given).dilation), (given).ceil_mode

template <class Two, class Three>
auto by_axes(const Pooling& given, Two* two, Three* three) {
  return given.axes == 2 ? two : three;
}

}  // namespace

PoolResult native_forward(const Tensor& input, Pooling& given) {
  AtenTensorHandle out = nullptr, index = nullptr;
  const AtenTensorHandle x = input.get();
  if (given.mode == PoolMode::kAvg) {
    if (given.adaptive)
      check(by_axes(given, aoti_torch_cpu__adaptive_avg_pool2d, aoti_torch_cpu__adaptive_avg_pool3d)(
          x, FASTCONV_LIST(given.output), &out));
    else check(by_axes(given, aoti_torch_cpu_avg_pool2d, aoti_torch_cpu_avg_pool3d)(x, FASTCONV_AVG(given), &out));
    return {Tensor(out), Tensor()};
  }
  if (given.adaptive)
    check(by_axes(given, aoti_torch_cpu_adaptive_max_pool2d, aoti_torch_cpu_adaptive_max_pool3d)(
        x, FASTCONV_LIST(given.output), &out, &index));
  else
    check(by_axes(given, aoti_torch_cpu_max_pool2d_with_indices, aoti_torch_cpu_max_pool3d_with_indices)(
        x, FASTCONV_MAX(given), &out, &index));
  return {Tensor(out), Tensor(index)};
}

Tensor native_backward(const Tensor& grad, const Tensor& input, const Tensor* indices, Pooling& given) {
  AtenTensorHandle out = nullptr;
  const AtenTensorHandle dy = grad.get(), x = input.get();
  if (given.mode == PoolMode::kAvg) {
    if (given.adaptive)
      check(by_axes(given, aoti_torch_cpu__adaptive_avg_pool2d_backward, aoti_torch_cpu__adaptive_avg_pool3d_backward)(
          dy, x, &out));
    else
      check(by_axes(given, aoti_torch_cpu_avg_pool2d_backward, aoti_torch_cpu_avg_pool3d_backward)(
          dy, x, FASTCONV_AVG(given), &out));
    return Tensor(out);
  }
  if (given.adaptive)
    check(by_axes(given, aoti_torch_cpu_adaptive_max_pool2d_backward, aoti_torch_cpu_adaptive_max_pool3d_backward)(
        dy, x, indices->get(), &out));
  else
    check(by_axes(given, aoti_torch_cpu_max_pool2d_with_indices_backward,
                  aoti_torch_cpu_max_pool3d_with_indices_backward)(dy, x, FASTCONV_MAX(given), indices->get(), &out));
  return Tensor(out);
}

}  // namespace fastconv::binding
