// What the process, or a scope of one thread, has asked for.
#pragma once

#include "conv/conv.h"

namespace fastconv::binding {

/// The settings of the next call of this thread: the thread's own where a scope is open, else the process's.
struct Settings {
  bool enabled = false;  // whether aten's convolutions are ours
  Precision precision = Precision::kHigh;
  bool allow_tf32 = false;        // whether torch lets convolutions on CUDA use TF32, by its word at the last look
  const ConvRow* kernel[3] = {};  // a row named by hand, by direction
};
Settings settings();

/// Whether aten's convolutions are ours; the one question a call asks while nothing is enabled.
bool enabled();

/// FASTCONV_FALLBACK=error: a valid problem must not be handed over to torch, whatever it costs.
bool fallback_is_error();

/// Notes which row this thread's last call of a direction ran on, null for torch's kernel.
void note_kernel(Direction direction, const ConvRow* row);

}  // namespace fastconv::binding
