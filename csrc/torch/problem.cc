#include "torch/problem.h"

#include <algorithm>

namespace fastconv::binding {
namespace {

constexpr int64_t kMostStep = 999'999'999;  // what the text form has digits for

/// torch's walk over the axes from the innermost out: strides must not fall, and a trivial channel axis or an
/// [N,1,1,1] tensor reads as contiguous.
bool strides_like_channels_last(const int64_t* sizes, const int64_t* strides, int64_t dim) {
  if (strides[1] == 0) return false;
  const int64_t order[5] = {1, dim - 1, dim - 2, dim == 5 ? 2 : 0, 0};
  int64_t least = 0;
  for (int64_t i = 0; i < dim; ++i) {
    const int64_t d = order[i];
    if (sizes[d] == 0 || strides[d] < least) return false;
    if (d == 0 && least == strides[1]) return false;
    least = strides[d];
    if (sizes[d] > 1) least *= sizes[d];
  }
  return true;
}

/// torch computes a 1-d convolution as a 2-d one of height 1, for which the input is made contiguous but the weight
/// keeps its strides.
bool weight_1d_suggests_channels_last(const Shape& weight) {
  const int64_t sizes[4] = {weight.sizes[0], weight.sizes[1], 1, weight.sizes[2]};
  const int64_t strides[4] = {weight.strides[0], weight.strides[1], weight.sizes[2] * weight.strides[2],
                              weight.strides[2]};
  return strides_like_channels_last(sizes, strides, 4);
}

bool torch_says(const char* op) {
  StableIValue stack[1] = {};
  if (torch_call_dispatcher(op, "", stack, TORCH_ABI_VERSION)) return false;
  return torch::stable::detail::to<bool>(stack[0]);
}

/// torch's rule for handing a 3-d convolution to oneDNN; its other 3-d kernels know no channels last.
bool onednn_takes(const Shape& input, const Shape& weight, DType dtype, const Geometry& g) {
  static const bool has_bf16 = torch_says("mkldnn::_is_mkldnn_bf16_supported");
  static const bool has_f16 = torch_says("mkldnn::_is_mkldnn_fp16_supported");
  if (g.transposed)
    for (int i = 0; i < 3; ++i)
      if (g.output_padding[i] >= g.stride[i]) return false;
  if (dtype == DType::kBFloat16) return has_bf16;
  if (dtype == DType::kFloat16) return has_f16;
  if (dtype == DType::kFloat64) return false;
  const int64_t S = weight.sizes[4], R = weight.sizes[3];
  bool strided_or_dilated = false;
  for (int i = 0; i < 3; ++i) strided_or_dilated |= g.stride[i] != 1 || g.dilation[i] != 1;
  uint32_t threads = 1;
  check(torch_get_num_threads(&threads));
  const int64_t* n = input.sizes;
  return (strided_or_dilated || n[0] >= 16 || S != 1 || R != 1 || threads > 1) &&
         (g.groups > 1 || (S > 3 && R > 3) || n[0] > 1 || n[0] * n[1] * n[2] * n[3] > 20480);
}

/// torch's rule for the result of a convolution. On a GPU it is cuDNN's, which knows no channels last in float64.
bool result_is_channels_last(const Shape& input, const Shape& weight, DType dtype, const Geometry& g) {
  if (input.sizes[0] == 0) return false;
  if (input.device.cuda && dtype == DType::kFloat64) return false;
  if (input.dim == 3) return weight_1d_suggests_channels_last(weight);
  if (!suggests_channels_last(input) && !suggests_channels_last(weight)) return false;
  return input.dim == 4 || input.device.cuda || onednn_takes(input, weight, dtype, g);
}

}  // namespace

bool expand(Ints* list, int64_t spatial, int64_t least) {
  if (list->count == 1)
    for (int64_t i = 1; i < spatial; ++i) list->values[i] = list->values[0];
  else if (list->count != spatial) return false;
  list->count = spatial;
  for (int64_t i = 0; i < spatial; ++i)
    if (list->values[i] < least) return false;
  return true;
}

void spread(const int64_t* from, int64_t spatial, int64_t* depth, int64_t* height, int64_t* width) {
  *width = from[spatial - 1];
  if (spatial > 1) *height = from[spatial - 2];
  if (spatial > 2) *depth = from[spatial - 3];
}

Shape shape_of(const Tensor& tensor) {
  return {tensor.dim(), tensor.sizes(), tensor.strides(), tensor.dtype(), tensor.device()};
}

bool has_sizes(const Shape& shape, const Ints& sizes) {
  return shape.dim == sizes.count && std::equal(shape.sizes, shape.sizes + shape.dim, sizes.values);
}

Ints sizes_of(const Shape& shape) {
  if (shape.dim > Ints::kMax)
    throw std::runtime_error("fastconv: a tensor of " + std::to_string(shape.dim) + " axes is no operand of a " +
                             "convolution, which has at most three spatial axes");
  Ints sizes;
  sizes.count = shape.dim;
  for (int64_t d = 0; d < shape.dim; ++d) sizes.values[d] = shape.sizes[d];
  return sizes;
}

bool suggests_channels_last(const Shape& shape) {
  return (shape.dim == 4 || shape.dim == 5) && strides_like_channels_last(shape.sizes, shape.strides, shape.dim);
}

const char* read_call(const Shape& input, const Shape& weight, const Shape* bias, Geometry g, Call* call) {
  ConvProblem& p = call->problem;
  if (!dtype_of(input.dtype, &p.dtype)) return "the dtype is not one of float64, float32, bfloat16, float16";
  if (weight.dtype != input.dtype || (bias && bias->dtype != input.dtype)) return "the operands' dtypes differ";
  if (weight.device != input.device || (bias && bias->device != input.device)) return "the operands' devices differ";
  if (input.dim < 3 || input.dim > 5 || weight.dim != input.dim) return "input and weight are not both 3-d, 4-d or 5-d";
  const int64_t spatial = input.dim - 2;
  if (!expand(&g.stride, spatial, 1)) return "stride is not one positive number per axis";
  if (!expand(&g.padding, spatial, 0)) return "padding is not one number >= 0 per axis";
  if (!expand(&g.dilation, spatial, 1)) return "dilation is not one positive number per axis";
  if (g.transposed && !expand(&g.output_padding, spatial, 0)) return "output_padding is not one number >= 0 per axis";
  if (g.groups < 1) return "groups is not positive";
  for (int64_t i = 1; i < input.dim; ++i)
    if (input.sizes[i] < 1) return "an extent of the input other than the batch is zero";
  for (int64_t i = 0; i < input.dim; ++i)
    if (weight.sizes[i] < 1) return "an extent of the weight is zero";

  const int64_t in_channels = g.transposed ? weight.sizes[0] : weight.sizes[1] * g.groups;
  const int64_t out_channels = g.transposed ? weight.sizes[1] * g.groups : weight.sizes[0];
  if (input.sizes[1] != in_channels) return "the input's channels are not those of the weight";
  if (weight.sizes[0] % g.groups) return "the weight's first extent is not divisible by groups";
  if (bias && (bias->dim != 1 || bias->sizes[0] != out_channels)) return "bias is not one number per output channel";

  Ints& out = call->output_sizes;
  out.count = input.dim;
  out.values[0] = input.sizes[0];
  out.values[1] = out_channels;
  for (int64_t i = 0; i < spatial; ++i) {
    const int64_t in = input.sizes[i + 2], filter = weight.sizes[i + 2];
    if (filter == 1) g.dilation.values[i] = 1;  // no sum depends on the distance of a single tap
    if (std::max(g.padding[i], g.dilation[i]) > kMostStep || g.dilation[i] > kMostReach / filter)
      return "padding or dilation is 10^9 or more";
    if (g.stride[i] > kMostStep) {  // which says nothing where it leads from no pixel to another
      const bool one =
          g.transposed ? in == 1 : output_extent(in, filter, g.stride[i], g.padding[i], g.dilation[i]) == 1;
      if (!one) return "stride is 10^9 or more";
      g.stride.values[i] = kMostStep;
    }
    int64_t extent;
    if (g.transposed) {
      const int64_t extra = g.output_padding[i];
      if (extra >= g.stride[i] && extra >= g.dilation[i]) return "output_padding is not below stride or dilation";
      extent = (in - 1) * g.stride[i] - 2 * g.padding[i] + g.dilation[i] * (filter - 1) + extra + 1;
    } else {
      extent = output_extent(in, filter, g.stride[i], g.padding[i], g.dilation[i]);
    }
    if (extent < 1) return "the output would be empty";
    out.values[i + 2] = extent;
  }

  const int64_t* x = g.transposed ? out.values : input.sizes;
  const int64_t* y = g.transposed ? input.sizes : out.values;
  p.N = x[0], p.C = x[1], p.K = y[1], p.groups = g.groups;
  spread(x + 2, spatial, &p.D, &p.H, &p.W);
  spread(y + 2, spatial, &p.Z, &p.P, &p.Q);
  spread(weight.sizes + 2, spatial, &p.T, &p.R, &p.S);
  spread(g.stride.values, spatial, &p.stride_d, &p.stride_h, &p.stride_w);
  spread(g.padding.values, spatial, &p.pad_d, &p.pad_h, &p.pad_w);
  spread(g.dilation.values, spatial, &p.dilation_d, &p.dilation_h, &p.dilation_w);
  if (reach(p) > kMostReach) return "strides, paddings and dilations reach 2^36 pixels or more";
  call->direction = g.transposed ? Direction::kDgrad : Direction::kFprop;
  call->spatial = spatial;
  call->dtype = input.dtype;
  call->device = input.device;
  call->channels_last = result_is_channels_last(input, weight, p.dtype, g);
  return nullptr;
}

bool dense_layout(const Shape& shape, Layout preferred, Layout* layout) {
  const auto dense = [&](Layout candidate) {
    int64_t expected = 1;
    const auto fits = [&](int64_t d) {
      if (shape.sizes[d] != 1 && shape.strides[d] != expected) return false;
      expected *= shape.sizes[d];
      return true;
    };
    if (candidate == Layout::kNhwc && !fits(1)) return false;
    for (int64_t d = shape.dim - 1; d >= 2; --d)
      if (!fits(d)) return false;
    return (candidate == Layout::kNhwc || fits(1)) && fits(0);
  };
  const Layout other = preferred == Layout::kNhwc ? Layout::kNchw : Layout::kNhwc;
  if (shape.sizes[0] == 0 || dense(preferred)) *layout = preferred;
  else if (dense(other)) *layout = other;
  else return false;
  return true;
}

Ints dense_strides(const Ints& sizes, bool channels_last) {
  Ints strides;
  strides.count = sizes.count;
  int64_t next = 1;
  const auto place = [&](int64_t d) {
    strides.values[d] = next;
    next *= sizes[d] > 1 ? sizes[d] : 1;
  };
  if (channels_last) place(1);
  for (int64_t d = sizes.count - 1; d >= 2; --d) place(d);
  if (!channels_last) place(1);
  place(0);
  return strides;
}

Filter filter_of(void* data, const int64_t* strides, const ConvProblem& p, int64_t spatial) {
  Filter f;
  f.data = data;
  f.stride_k = strides[0];
  f.stride_g = p.K_per_group() * strides[0];
  f.stride_c = strides[1];
  spread(strides + 2, spatial, &f.stride_t, &f.stride_r, &f.stride_s);
  return f;
}

}  // namespace fastconv::binding
