// What the process, or a scope of one thread, has asked for.
#pragma once

#include "core/row.h"

namespace fastconv::binding {

/// The settings of the next call of this thread: the thread's own where a scope is open, else the process's.
struct Settings {
  bool enabled = false;  // whether aten's ops are ours
  Precision precision = Precision::kHigh;
  bool allow_tf32 = false;             // whether torch lets convolutions on CUDA use TF32, by its word at the last look
  const RowBase* kernel[kSlots] = {};  // a row named by hand, by family and direction
};
Settings settings();

/// Whether aten's ops are ours; the one question a call asks while nothing is enabled.
bool enabled();

/// Whether this thread is inside a scope of its own.
bool scope_is_open();

/// FASTCONV_FALLBACK=error: a valid problem must not be handed over to torch, whatever it costs.
bool fallback_is_error();

/// Notes which row this thread's last call of a family's direction ran on, null for torch's kernel.
void note_kernel(FamilyId family, Direction direction, const RowBase* row);

}  // namespace fastconv::binding
