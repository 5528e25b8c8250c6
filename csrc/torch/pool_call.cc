#include "torch/pool_call.h"

#include <limits>

#include "pool/window.h"

namespace fastconv::binding {
namespace {

/// torch's number of outputs along an axis: rounded up, no window may begin past the image and its padding.
int64_t outputs(int64_t in, int64_t taps, int64_t stride, int64_t pad, int64_t dilation, bool ceil_mode) {
  const int64_t span = in + 2 * pad - dilation * (taps - 1) - 1;
  if (span < 0) return 0;
  const int64_t rounded = (span + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  return ceil_mode && (rounded - 1) * stride >= in + pad ? rounded - 1 : rounded;
}

/// Of whole numbers there are maxima, through fixed windows: torch has no others.
bool read_dtype(int32_t dtype, const Pooling& given, DType* out) {
  if (dtype_of(dtype, out)) return true;
  *out = dtype == torch_dtype_of(DType::kUInt8) ? DType::kUInt8 : DType::kInt8;
  return dtype == torch_dtype_of(*out) && given.mode == PoolMode::kMax && !given.adaptive;
}

bool fit(const Ints& list) {
  for (int64_t i = 0; i < list.count; ++i)
    if (list[i] > std::numeric_limits<int32_t>::max()) return false;  // torch refuses
  return true;
}

/// Whether every window has an input: of one that has none, torch makes what it finds.
bool sees_something(const PoolAxis& a) {
  if (a.pad == 0 && (a.out - 1) * a.stride < a.in) return true;
  for (int64_t o = 0; o < a.out; ++o)
    if (window_of(a, o).taps.count() == 0) return false;
  return true;
}

bool read_windows(const Pooling& given, PoolProblem* p) {
  Ints window = given.window, stride = given.stride.count ? given.stride : given.window, padding = given.padding,
       dilation = given.dilation;
  if (given.mode != PoolMode::kMax) dilation = Ints{1, {1}};
  for (Ints* list : {&window, &stride, &padding, &dilation})
    if (!fit(*list) || !expand(list, given.axes, list == &padding ? 0 : 1)) return false;
  spread(window.values, given.axes, &p->T, &p->R, &p->S);
  spread(stride.values, given.axes, &p->stride_d, &p->stride_h, &p->stride_w);
  spread(padding.values, given.axes, &p->pad_d, &p->pad_h, &p->pad_w);
  spread(dilation.values, given.axes, &p->dilation_d, &p->dilation_h, &p->dilation_w);
  for (int64_t i = 0; i < given.axes; ++i)
    if (padding[i] * 2 > window[i]) return false;
  // torch refuses it of means of three axes alone.
  if (given.mode == PoolMode::kAvg && given.axes == 3 && (p->D < p->T || p->H < p->R || p->W < p->S)) return false;
  p->Z = outputs(p->D, p->T, p->stride_d, p->pad_d, p->dilation_d, given.ceil_mode);
  p->P = outputs(p->H, p->R, p->stride_h, p->pad_h, p->dilation_h, given.ceil_mode);
  p->Q = outputs(p->W, p->S, p->stride_w, p->pad_w, p->dilation_w, given.ceil_mode);
  return sees_something(depth_of(*p)) && sees_something(height_of(*p)) && sees_something(width_of(*p));
}

bool read_adaptive(const Pooling& given, PoolProblem* p) {
  Ints output = given.output;
  if (!fit(output) || !expand(&output, given.axes, 1)) return false;
  spread(output.values, given.axes, &p->Z, &p->P, &p->Q);
  return true;
}

/// N, C and the last extents of a tensor of `axes` spatial axes.
Ints sizes_as(const PoolProblem& p, int64_t axes, const int64_t (&extents)[3]) {
  Ints sizes;
  sizes.count = axes + 2;
  sizes.values[0] = p.N, sizes.values[1] = p.C;
  for (int64_t i = 0; i < axes; ++i) sizes.values[2 + i] = extents[3 - axes + i];
  return sizes;
}

}  // namespace

void Pooling::read(Arguments& next) {
  if (adaptive) {
    output = next.ints();
    return;
  }
  window = next.ints();
  stride = next.ints();
  padding = next.ints();
  if (mode == PoolMode::kMax) dilation = next.ints();
  ceil_mode = next.boolean();
  if (mode == PoolMode::kMax) return;
  count_padding = next.boolean();
  has_divisor = next.optional_integer(&divisor);
}

bool read_call(const Shape& input, const Pooling& given, PoolCall* call) {
  PoolProblem& p = call->problem;
  if ((given.axes != 2 && given.axes != 3) || input.dim != given.axes + 2 || !read_dtype(input.dtype, given, &p.dtype))
    return false;
  p.N = input.sizes[0], p.C = input.sizes[1];
  spread(input.sizes + 2, given.axes, &p.D, &p.H, &p.W);
  if (p.C < 1 || p.D < 1 || p.H < 1 || p.W < 1) return false;
  if (given.has_divisor && given.divisor == 0) return false;
  p.mode = given.mode;
  p.adaptive = given.adaptive;
  p.index = given.index;
  p.divisor = given.divisor;
  p.count_padding = given.count_padding;
  if (!(given.adaptive ? read_adaptive(given, &p) : read_windows(given, &p))) return false;
  if (p.Z < 1 || p.P < 1 || p.Q < 1) return false;
  // Of torch's pools of three axes the fixed maximum alone keeps channels last.
  const bool keeps = given.axes == 2 || (given.mode == PoolMode::kMax && !given.adaptive);
  call->channels_last = keeps && suggests_channels_last(input);
  call->x_sizes = sizes_as(p, given.axes, {p.D, p.H, p.W});
  call->y_sizes = sizes_as(p, given.axes, {p.Z, p.P, p.Q});
  return true;
}

}  // namespace fastconv::binding
