// Which taps the outputs of a phase meet along one axis, and where; direct.h says what a phase is.
#pragma once

#include "core/cuda/device.h"

namespace fastconv {
namespace {

/// One spatial axis of a phase.
struct AxisTaps {
  int out_step, phase, in_step, first, tap_step, tap_first, tap_jump, taps;

  static __device__ __forceinline__ AxisTaps of_fprop(int stride, int pad, int dilation, int filter) {
    return {1, 0, stride, -pad, dilation, 0, 1, filter};
  }
  /// Tap r meets dy where phase + pad - r * dilation is a multiple of the stride; then each (stride / gcd)-th does.
  static __device__ __forceinline__ AxisTaps of_dgrad(int phase, int stride, int pad, int dilation, int filter) {
    int tap = 0, divisor = stride;
    while (tap < filter && (phase + pad - tap * dilation) % stride != 0) ++tap;
    for (int rest = dilation; rest != 0;) {
      const int before = divisor;
      divisor = rest, rest = before % rest;
    }
    const int jump = stride / divisor;
    return {stride,
            phase,
            1,
            tap < filter ? (phase + pad - tap * dilation) / stride : 0,
            -(dilation / divisor),
            tap,
            jump,
            tap < filter ? (filter - 1 - tap) / jump + 1 : 0};
  }
  /// Outputs of this phase among `extent`.
  __device__ __forceinline__ int outputs(int extent) const {
    return phase < extent ? (extent - phase - 1) / out_step + 1 : 0;
  }
};

}  // namespace
}  // namespace fastconv
