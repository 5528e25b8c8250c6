// Runs a plan on any device: turns activations into the layouts that its row wants, and lays out the call's scratch
// memory, which the device's own code brings.
#pragma once

#include "conv/choice.h"

namespace fastconv {

/// to[n][j][i] = from[n][i][j] for `problem.N` matrices of rows x columns elements of the problem's dtype. A GPU's
/// works on the stream.
using Transpose = void (*)(const ConvProblem& problem, const void* from, void* to, int64_t rows, int64_t columns,
                           void* stream);

/// Where the pieces of a run's scratch memory begin.
struct Scratch {
  int64_t images = 0;  // that are run at once
  size_t x = 0, y = 0, residual = 0, packed = 0, workspace = 0;
  size_t bytes = 0;  // of all
};

/// The scratch memory of a run of `images` images at a time, each piece aligned to `alignment`. Of `args`, whether
/// there is a residual and a packed weight counts.
Scratch scratch_for(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args, int64_t images,
                    size_t alignment);

/// Runs a plan on operands laid out as `problem` says; `memory` has `scratch.bytes`. Where the row packs and
/// `args.packed` is null, the weight is packed for this call.
void run_in(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args, const Scratch& scratch,
            void* memory, Transpose transpose);

}  // namespace fastconv
