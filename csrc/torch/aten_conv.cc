// fastconv under aten::convolution and aten::convolution_backward.
//
// With the flag off, or for arguments that read_call() leaves to torch, or where no row is known to win, the call goes
// on to torch's kernel; so it does while torch.jit.trace records, which sees torch's kernel and none of ours.

#include "torch/convolution.h"
#include "torch/install.h"

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

}  // namespace

template <>
void under_aten<Conv>(torch::stable::detail::StableLibrary& library, const char*) {
  library.impl("convolution", boxed_convolution);
  library.impl("convolution_backward", boxed_backward);
}

}  // namespace fastconv::binding
