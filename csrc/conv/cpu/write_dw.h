// From the working dw of a weight gradient, rows of k, to the weight's own strides.
#pragma once

#include "conv/conv.h"
#include "conv/cpu/wgrad_plan.h"

namespace fastconv {
namespace {

/// Row `row` of the working dw, lanes [k, k + kLanes) of its panel: the parts' sums added in their order.
FASTCONV_INLINE Vec sum_parts(const float* row, int64_t parts, int64_t part_floats) {
  Vec sum = load(row);
  for (int64_t part = 1; part < parts; ++part) sum = sum + load(row + part * part_floats);
  return sum;
}

/// Writes filters [0, n) of `to`, `stride_k` apart, each `count` neighbouring weights: weight j is work row row_of(j).
template <class RowOf>
void write_filters(const float* work, int64_t parts, int64_t part_floats, int64_t n, int64_t count, float* to,
                   int64_t stride_k, RowOf&& row_of) {
  for (int64_t k = 0; k < n; k += kLanes)
    for (int64_t j = 0; j < count; j += kLanes) {
      const int64_t columns = least(kLanes, count - j), filters = least(kLanes, n - k);
      Vec block[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        block[i] = i < columns ? sum_parts(work + row_of(j + i) * kPanel + k, parts, part_floats) : zero();
      transpose(block);
      for (int64_t i = 0; i < filters; ++i) {
        float* filter = to + (k + i) * stride_k + j;
        if (columns == kLanes) store(filter, block[i]);
        else store(filter, block[i], columns);
      }
    }
}

/// dw[k0 + 0 .. n, c0 + 0 .. channels, all taps] from the working dw of the parts.
inline void write_dw(const ConvProblem& p, const Filter& w, int64_t g, int64_t k0, int64_t n, int64_t c0,
                     int64_t channels, const float* work, int64_t parts, int64_t part_floats) {
  const int64_t taps = p.R * p.S;
  float* to = static_cast<float*>(w.data) + w.offset(g, k0, c0, 0, 0, 0);
  const bool kcrs = w.stride_c == taps && (p.S == 1 || w.stride_s == 1) && (p.R == 1 || w.stride_r == p.S);
  if (kcrs) {  // one filter's channels are channels * taps neighbours
    write_filters(work, parts, part_floats, n, channels * taps, to, w.stride_k,
                  [&](int64_t j) { return j % taps * channels + j / taps; });
    return;
  }
  for (int64_t r = 0; r < p.R; ++r)
    for (int64_t s = 0; s < p.S; ++s, work += channels * kPanel) {
      float* tap = to + r * w.stride_r + s * w.stride_s;
      if (w.stride_c == 1) {  // krsc: one tap's channels are neighbours
        write_filters(work, parts, part_floats, n, channels, tap, w.stride_k, [](int64_t j) { return j; });
        continue;
      }
      for (int64_t k = 0; k < n; ++k)
        for (int64_t c = 0; c < channels; ++c) {
          float sum = work[c * kPanel + k];
          for (int64_t part = 1; part < parts; ++part) sum += work[part * part_floats + c * kPanel + k];
          tap[k * w.stride_k + c * w.stride_c] = sum;
        }
    }
}

/// Where there is nothing to sum.
inline void zero_dw(const ConvProblem& p, const Filter& w) {
  for (int64_t g = 0; g < p.groups; ++g)
    for (int64_t k = 0; k < p.K_per_group(); ++k)
      for (int64_t c = 0; c < p.C_per_group(); ++c)
        for (int64_t r = 0; r < p.R; ++r)
          for (int64_t s = 0; s < p.S; ++s) static_cast<float*>(w.data)[w.offset(g, k, c, 0, r, s)] = 0;
}

}  // namespace
}  // namespace fastconv
