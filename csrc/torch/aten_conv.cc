// fastconv under aten::convolution and aten::convolution_backward at the CPU key and, with CUDA kernels, at CUDA's.
//
// Registered by the first `fastconv.enable()` and never before, so that a process that enables nothing pays nothing.
// With the flag off, or for arguments that read_call() leaves to torch, or where no row is known to win, the call goes
// on to torch's kernel; so it does while torch.jit.trace records, which sees torch's kernel and none of ours.

#include <cstring>

#include "torch/api.h"
#include "torch/convolution.h"
#include "torch/error.h"
#include "torch/fork.h"

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

bool is_ours() { return enabled() && !is_tracing(); }

void boxed_convolution(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTtlllvlv");
  const Tensor input = next.tensor(), weight = next.tensor(), bias = next.optional_tensor();
  const Geometry geometry = read_geometry(next);
  stack[0] = result(is_ours() ? convolution(input, weight, bias, geometry, Extras(), settings())
                              : native_convolution(input, weight, bias, geometry));
}

void boxed_backward(StableIValue* stack, uint64_t, uint64_t) {
  Arguments next(stack, "TTTmlllvlvl");
  const Tensor grad = next.tensor(), input = next.tensor(), weight = next.tensor();
  Ints bias_sizes;
  const bool has_bias_sizes = next.optional_ints(&bias_sizes);
  const Geometry geometry = read_geometry(next);
  bool mask[3];
  next.booleans(mask);
  const Ints* sizes = has_bias_sizes ? &bias_sizes : nullptr;
  Gradients out = is_ours() ? backward(grad, input, weight, sizes, geometry, mask, settings())
                            : native_backward(grad, input, weight, sizes, geometry, mask);
  stack[0] = result_or_undefined(std::move(out.input));
  stack[1] = result_or_undefined(std::move(out.weight));
  stack[2] = result_or_undefined(std::move(out.bias));
}

using torch::stable::detail::StableLibrary;

constexpr const char* kKeys[] = {"CPU", "CUDA"};
StableLibrary* registered[std::size(kKeys)];  // not destroyed at exit: another thread may be inside a kernel

std::mutex& registering() {
  static std::mutex& mutex = fork_safe_mutex();
  return mutex;
}

}  // namespace
}  // namespace fastconv::binding

using namespace fastconv::binding;

void fastconv_install() {
  guarded([] {
    if (!knows_tracing())
      throw std::runtime_error(
          "fastconv: this torch does not say whether it records a trace, without which fastconv cannot be put under "
          "its convolutions");
    const std::lock_guard lock(registering());
    for (size_t i = 0; i < std::size(kKeys); ++i) {
      if (registered[i] || (!kHasCuda && !std::strcmp(kKeys[i], "CUDA"))) continue;
      registered[i] = new StableLibrary(StableLibrary::Kind::IMPL, "aten", kKeys[i], __FILE__, __LINE__);
      registered[i]->impl("convolution", boxed_convolution);
      registered[i]->impl("convolution_backward", boxed_backward);
    }
  });
}

void fastconv_uninstall() {
  guarded([] {
    const std::lock_guard lock(registering());
    if (enabled() || scope_is_open()) return;
    for (StableLibrary*& library : registered) delete std::exchange(library, nullptr);
  });
}
