// What the process, or a scope of one thread, has asked for.
#pragma once

#include "conv/conv.h"

namespace fastconv::binding {

constexpr int kDirections = 3;  // of convolution, in the order of Direction

/// The settings of the next call of this thread: the thread's own where a scope is open, else the process's.
struct Settings {
  bool enabled = false;  // whether aten's convolutions are ours
  Precision precision = Precision::kHigh;
  bool allow_tf32 = false;  // whether torch lets convolutions on CUDA use TF32, by its word at the last look
  const ConvRow* kernel[kDirections] = {};  // a row named by hand, by direction
};
Settings settings();

/// Whether aten's convolutions are ours; the one question a call asks while nothing is enabled.
bool enabled();

/// Whether this thread is inside a scope of its own.
bool scope_is_open();

/// FASTCONV_FALLBACK=error: a valid problem must not be handed over to torch, whatever it costs.
bool fallback_is_error();

/// Notes which row this thread's last call of a direction ran on, null for torch's kernel.
void note_kernel(Direction direction, const ConvRow* row);

}  // namespace fastconv::binding
