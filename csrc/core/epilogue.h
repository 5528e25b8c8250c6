// What a kernel does to its sums before it writes them, and what every call may bring beside its operands.
#pragma once

#include "core/types.h"

namespace fastconv {

/// `out = act(scale[channel] * sum + shift[channel] + residual)`, applied while the tile is in registers.
///
/// Channels are the output's. `scale` and `shift` hold the accumulation type (float, or double for float64 problems);
/// null means 1 and 0. `residual` has the output's dtype, extents and layout.
struct Epilogue {
  const void* scale = nullptr;
  const void* shift = nullptr;
  const void* residual = nullptr;
  Activation activation = Activation::kNone;

  bool empty() const { return !scale && !shift && !residual && activation == Activation::kNone; }
};

/// What the arguments of every family have.
struct CallArgs {
  Epilogue epilogue;             // of directions whose operands name its parts
  const void* packed = nullptr;  // what the kernel's `pack` wrote, for kernels that have one
  void* workspace = nullptr;     // `workspace(problem)` bytes, aligned to 64 (CUDA: 256); contents undefined
  void* stream = nullptr;        // CUDA kernels: the stream, on whose device all pointers lie
};

}  // namespace fastconv
