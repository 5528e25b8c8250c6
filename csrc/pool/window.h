// The places of a pooling's windows along one axis.
#pragma once

#include <cstdint>

#include "core/host_device.h"
#include "pool/problem.h"

namespace fastconv {
namespace {

struct PoolAxis {
  int64_t in, taps, out, stride, pad, dilation;
  bool adaptive;
};
FASTCONV_HOST_DEVICE PoolAxis depth_of(const PoolProblem& p) {
  return {p.D, p.T, p.Z, p.stride_d, p.pad_d, p.dilation_d, p.adaptive};
}
FASTCONV_HOST_DEVICE PoolAxis height_of(const PoolProblem& p) {
  return {p.H, p.R, p.P, p.stride_h, p.pad_h, p.dilation_h, p.adaptive};
}
FASTCONV_HOST_DEVICE PoolAxis width_of(const PoolProblem& p) {
  return {p.W, p.S, p.Q, p.stride_w, p.pad_w, p.dilation_w, p.adaptive};
}

FASTCONV_HOST_DEVICE int64_t quotient_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
/// The same, quickly where b is 1: dilations nearly always are, and a division takes longer than a vector's work.
FASTCONV_HOST_DEVICE int64_t steps_up(int64_t a, int64_t b) { return b == 1 ? a : quotient_up(a, b); }

struct PoolSpan {
  int64_t begin, end;
  FASTCONV_HOST_DEVICE int64_t count() const { return end > begin ? end - begin : 0; }
};

/// What output `o` looks at: the taps inside the image, of which tap t is input `first + t * step`. `padded` counts
/// those inside the padded image.
struct PoolWindow {
  int64_t first, step;
  PoolSpan taps;
  int64_t padded;
  FASTCONV_HOST_DEVICE int64_t input(int64_t tap) const { return first + tap * step; }
};
FASTCONV_HOST_DEVICE PoolWindow window_of(const PoolAxis& a, int64_t o) {
  if (a.adaptive) {
    const int64_t begin = o * a.in / a.out, end = quotient_up((o + 1) * a.in, a.out);
    return {begin, 1, {0, end - begin}, end - begin};
  }
  const int64_t first = o * a.stride - a.pad, last = first + a.taps;
  const int64_t begin = first < 0 ? steps_up(-first, a.dilation) : 0;
  const int64_t inside = first < a.in ? steps_up(a.in - first, a.dilation) : 0;
  return {first,
          a.dilation,
          {begin, inside < a.taps ? inside : a.taps},
          (last < a.in + a.pad ? last : a.in + a.pad) - first};
}

/// The outputs whose windows lie inside the image; none of adaptive windows, which all differ.
FASTCONV_HOST_DEVICE PoolSpan inside(const PoolAxis& a) {
  if (a.adaptive) return {0, 0};
  const int64_t begin = quotient_up(a.pad, a.stride), room = a.in + a.pad - (a.taps - 1) * a.dilation - 1;
  const int64_t end = room < 0 ? 0 : room / a.stride + 1;
  return {begin, end < a.out ? end : a.out};
}

/// The most taps that a window has.
inline int64_t most_taps(const PoolAxis& a) {
  if (!a.adaptive) return a.taps;
  return a.out == 0 ? 1 : a.in % a.out == 0 ? a.in / a.out : a.in / a.out + 2;
}

/// The outputs whose windows reach input `i`; with a dilation not all of them look at it.
FASTCONV_HOST_DEVICE PoolSpan outputs_of(const PoolAxis& a, int64_t i) {
  if (a.adaptive) return {i * a.out / a.in, quotient_up((i + 1) * a.out, a.in)};
  const int64_t reach = i + a.pad, first = reach - (a.taps - 1) * a.dilation;
  const int64_t begin = first > 0 ? quotient_up(first, a.stride) : 0, end = reach / a.stride + 1;
  return {begin, end < a.out ? end : a.out};
}

/// The tap by which a window that reaches input `i` looks at it, or -1.
FASTCONV_HOST_DEVICE int64_t tap_of(const PoolWindow& window, int64_t i) {
  if (window.step == 1) return i - window.first;
  return (i - window.first) % window.step == 0 ? (i - window.first) / window.step : -1;
}

/// What the mean of a window divides by; 0 of one without an input.
FASTCONV_HOST_DEVICE int64_t divisor_of(const PoolProblem& p, const PoolWindow& d, const PoolWindow& h,
                                        const PoolWindow& w) {
  const int64_t inputs = d.taps.count() * h.taps.count() * w.taps.count();
  if (inputs == 0) return 0;
  if (p.divisor) return p.divisor;
  return p.count_padding ? d.padded * h.padded * w.padded : inputs;
}

/// An axis' part of what a mean divides by where no divisor is given: at least 1.
FASTCONV_HOST_DEVICE int64_t counted(const PoolProblem& p, const PoolWindow& window) {
  if (p.divisor) return 1;
  const int64_t count = p.count_padding ? window.padded : window.taps.count();
  return count > 1 ? count : 1;
}

/// The index of the input that the three taps look at, as `p.index` counts.
FASTCONV_HOST_DEVICE int64_t index_of(const PoolProblem& p, const PoolWindow& d, int64_t t, const PoolWindow& h,
                                      int64_t r, const PoolWindow& w, int64_t s) {
  if (p.index == IndexType::kUInt8) return (t * p.R + r) * p.S + s;
  return (d.input(t) * p.H + h.input(r)) * p.W + w.input(s);
}

}  // namespace
}  // namespace fastconv
