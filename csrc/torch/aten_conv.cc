// fastconv under aten::convolution and aten::convolution_backward at the CPU key and, with CUDA kernels, at CUDA's.
//
// Registered on the first `fastconv.enable()` and never before, so that a process that enables nothing pays nothing.
// With the flag off, or for arguments that understand() leaves to torch, or where no row is known to win, the call goes
// on to torch's kernel.

#include <cstring>
#include <mutex>

#include "torch/api.h"
#include "torch/convolution.h"

namespace fastconv::binding {
namespace {

Geometry read_geometry(Arguments& next) {
  Geometry g;
  g.stride = next.ints();
  g.padding = next.ints();
  g.dilation = next.ints();
  g.transposed = next.boolean();
  g.output_padding = next.ints();
  g.groups = next.integer();
  return g;
}

void boxed_convolution(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  const Geometry geometry = read_geometry(next);
  stack[0] = result(enabled() ? convolution(input, weight, bias, geometry, settings())
                              : native_convolution(input, weight, bias, geometry));
}

void boxed_backward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack);
  const Tensor grad = next.tensor(), input = next.tensor(), weight = next.tensor();
  Ints bias_sizes;
  const bool has_bias_sizes = next.optional_ints(&bias_sizes);
  const Geometry geometry = read_geometry(next);
  bool mask[3];
  next.booleans(mask);
  const Ints* sizes = has_bias_sizes ? &bias_sizes : nullptr;
  Gradients out = enabled() ? backward(grad, input, weight, sizes, geometry, mask, settings())
                            : native_backward(grad, input, weight, sizes, geometry, mask);
  stack[0] = result_or_undefined(std::move(out.input));
  stack[1] = result_or_undefined(std::move(out.weight));
  stack[2] = result_or_undefined(std::move(out.bias));
}

}  // namespace
}  // namespace fastconv::binding

void fastconv_install() {
  using fastconv::binding::boxed_backward;
  using fastconv::binding::boxed_convolution;
  using torch::stable::detail::StableLibrary;
  static std::once_flag once;
  std::call_once(once, [] {
    for (const char* key : {"CPU", "CUDA"}) {
      if (!fastconv::binding::kHasCuda && !std::strcmp(key, "CUDA")) continue;
      // Never destroyed: another thread may be inside a kernel while the process ends.
      auto* library = new StableLibrary(StableLibrary::Kind::IMPL, "aten", key, __FILE__, __LINE__);
      library->impl("convolution", boxed_convolution);
      library->impl("convolution_backward", boxed_backward);
    }
  });
}
