// The places of a pooling's windows along one axis.
#pragma once

#include <cstdint>

#include "pool/problem.h"

namespace fastconv {
namespace {

struct PoolAxis {
  int64_t in, taps, out, stride, pad;
};
inline PoolAxis depth_of(const PoolProblem& p) { return {p.D, p.T, p.Z, p.stride_d, p.pad_d}; }
inline PoolAxis height_of(const PoolProblem& p) { return {p.H, p.R, p.P, p.stride_h, p.pad_h}; }
inline PoolAxis width_of(const PoolProblem& p) { return {p.W, p.S, p.Q, p.stride_w, p.pad_w}; }

struct PoolSpan {
  int64_t begin, end;
  int64_t count() const { return end > begin ? end - begin : 0; }
};

/// The inputs that output `o` looks at; `padded` counts those inside the padded image.
struct PoolWindow {
  PoolSpan inputs;
  int64_t padded;
};
inline PoolWindow window_of(const PoolAxis& a, int64_t o) {
  const int64_t first = o * a.stride - a.pad, last = first + a.taps;
  const int64_t padded_end = last < a.in + a.pad ? last : a.in + a.pad;
  return {{first > 0 ? first : 0, last < a.in ? last : a.in}, padded_end - first};
}

/// The outputs whose windows look at input `i`.
inline PoolSpan outputs_of(const PoolAxis& a, int64_t i) {
  const int64_t reach = i + a.pad, first = reach - a.taps + 1;
  const int64_t begin = first > 0 ? (first + a.stride - 1) / a.stride : 0, end = reach / a.stride + 1;
  return {begin, end < a.out ? end : a.out};
}

/// What the mean of a window divides by; 0 of one without an input.
inline int64_t divisor_of(const PoolProblem& p, const PoolWindow& d, const PoolWindow& h, const PoolWindow& w) {
  const int64_t inputs = d.inputs.count() * h.inputs.count() * w.inputs.count();
  if (inputs == 0) return 0;
  if (p.divisor) return p.divisor;
  return p.count_padding ? d.padded * h.padded * w.padded : inputs;
}

}  // namespace
}  // namespace fastconv
