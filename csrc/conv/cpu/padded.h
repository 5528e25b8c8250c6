// How far a copy of the image with its padding filled in may outgrow the image.
#pragma once

#include "conv/conv.h"

namespace fastconv {
namespace {

/// Whether what lies under all outputs of an axis, from the first tap's first pixel to the last tap's last, is mostly
/// padding, as a dilation many times the image makes it.
inline bool is_mostly_padding(int64_t extent, int64_t outputs, int64_t taps, int64_t stride, int64_t dilation) {
  constexpr int64_t kLittle = 64, kTimes = 16;
  const int64_t under = (outputs - 1) * stride + (taps - 1) * dilation + 1;
  return under > kLittle && under > kTimes * (extent > outputs ? extent : outputs);
}

/// For kernels that copy rows with their padding: where they would write and read little else, the explicit matrix,
/// which has only the pixels that exist, or torch serves better.
inline const char* padded_copy_why_not(const ConvProblem& p) {
  if (is_mostly_padding(p.H, p.P, p.R, p.stride_h, p.dilation_h) ||
      is_mostly_padding(p.W, p.Q, p.S, p.stride_w, p.dilation_w))
    return "the filter reaches so far outside the image that a padded copy would be mostly padding";
  return nullptr;
}

/// Whether one of `outputs` neighbours along an axis reads the pixel that lies `at` after the first one's tap 0: of
/// those between the taps of a large dilation most are not read.
inline bool is_read(int64_t at, int64_t outputs, int64_t taps, int64_t stride, int64_t dilation) {
  for (int64_t tap = 0; tap < taps && at >= 0; ++tap, at -= dilation)
    if (at % stride == 0 && at / stride < outputs) return true;
  return false;
}

}  // namespace
}  // namespace fastconv
