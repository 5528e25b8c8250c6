// Runs a plan on any device: transposes activations into the layouts that its row wants, and lays out the call's
// scratch memory, which the device's own code brings.
//
// A family's record F brings, beside what core/table.h names:
//   operands(direction)             what a call reads and writes (core/operand.h)
//   extents(problem, side)          how an activation lies
//   with_images(problem, images)    the problem of a part of the batch
//   weight(args)                    the weight that a row packs
//   squeezed(args, problem)         the arguments as `squeezed(problem)` means them
#pragma once

#include <algorithm>

#include "core/operand.h"
#include "core/table.h"

namespace fastconv {

/// to[n][j][i] = from[n][i][j] for `count` matrices of rows x columns elements. A GPU's works on the stream.
using Transpose = void (*)(const void* from, void* to, int64_t count, int64_t rows, int64_t columns, int64_t element,
                           void* stream);

/// Where the pieces of a run's scratch memory begin.
struct Scratch {
  int64_t images = 0;                   // that are run at once
  size_t operands[kMostOperands] = {};  // transposed copies
  size_t packed = 0, workspace = 0;
  size_t bytes = 0;  // of all
};

template <class F>
bool is_transposed(const Plan<F>& plan, const typename F::Problem& squeezed, const Operand<F>& operand) {
  return is_image(operand) &&
         F::extents(plan.problem, operand.side).layout != F::extents(squeezed, operand.side).layout;
}

template <class F>
bool packs_now(const Plan<F>& plan, const typename F::Args& args) {
  return plan.row->kernel->pack && !args.packed;
}

/// Whether a direction's result is an activation, whose images can be computed part by part.
template <class F>
bool writes_images(Direction direction) {
  for (const Operand<F>& operand : F::operands(direction))
    if (operand.written && !is_image(operand)) return false;
  return true;
}

/// The scratch memory of a run of `images` images at a time, each piece aligned to `alignment`. Of `args`, which
/// operands there are and whether there is a packed weight counts.
template <class F>
Scratch scratch_for(const Plan<F>& plan, const typename F::Problem& squeezed, typename F::Args args, int64_t images,
                    size_t alignment) {
  const Kernel<F>& kernel = *plan.row->kernel;
  Scratch s;
  s.images = images;
  const auto add = [&](size_t bytes) {
    const size_t at = s.bytes;
    s.bytes += (bytes + alignment - 1) / alignment * alignment;
    return at;
  };
  const auto part = F::with_images(plan.problem, images);
  const std::span<const Operand<F>> operands = F::operands(plan.row->direction);
  for (size_t i = 0; i < operands.size(); ++i)
    if (is_transposed(plan, squeezed, operands[i]) && *operands[i].at(args))
      s.operands[i] =
          add(static_cast<size_t>(F::extents(part, operands[i].side).elements() * element_of(operands[i], part)));
  if (packs_now(plan, args)) s.packed = add(kernel.packed_bytes(plan.problem));
  if (kernel.workspace) {
    size_t workspace = kernel.workspace(part);
    if (images && plan.problem.N % images)  // the last portion is smaller, its workspace need not be
      workspace = std::max(workspace, kernel.workspace(F::with_images(plan.problem, plan.problem.N % images)));
    s.workspace = add(workspace);
  }
  return s;
}

/// Runs a plan on operands that lie as `squeezed` says; `memory` has `scratch.bytes`. Where the row packs and
/// `args.packed` is null, the weight is packed for this call.
template <class F>
void run_in(const Plan<F>& plan, const typename F::Problem& squeezed, typename F::Args args, const Scratch& scratch,
            void* scratch_memory, Transpose transpose) {
  const Kernel<F>& kernel = *plan.row->kernel;
  const std::span<const Operand<F>> operands = F::operands(plan.row->direction);
  char* const memory = static_cast<char*>(scratch_memory);
  const auto turn = [&](const Operand<F>& operand, const Extents& at, Layout to, const void* from, void* dest) {
    const bool last = to == Layout::kNhwc;
    transpose(from, dest, at.N, last ? at.channels : at.pixels(), last ? at.pixels() : at.channels,
              element_of(operand, squeezed), args.stream);
  };

  args.workspace = memory + scratch.workspace;
  if (packs_now(plan, args)) {
    kernel.pack(plan.problem, F::weight(args), memory + scratch.packed);
    args.packed = memory + scratch.packed;
  }
  for (int64_t n = 0; n == 0 || n < squeezed.N; n += scratch.images) {
    const int64_t images = std::min(scratch.images, squeezed.N - n);
    const auto part = F::with_images(squeezed, images), seen = F::with_images(plan.problem, images);
    typename F::Args inner = args;
    for (size_t i = 0; i < operands.size(); ++i) {
      const Operand<F>& operand = operands[i];
      const void*& pointer = *operand.at(inner);
      if (!is_image(operand) || !pointer) continue;
      const Extents at = F::extents(part, operand.side);
      pointer = static_cast<const char*>(pointer) + n * at.channels * at.pixels() * element_of(operand, squeezed);
      if (!is_transposed(plan, squeezed, operand)) continue;
      void* const copy = memory + scratch.operands[i];
      if (!operand.written) turn(operand, at, F::extents(seen, operand.side).layout, pointer, copy);
      pointer = copy;
    }
    kernel.run(seen, inner);
    for (size_t i = 0; i < operands.size(); ++i) {
      const Operand<F>& operand = operands[i];
      const void* const out = *operand.at(args);
      if (!operand.written || !out || !is_transposed(plan, squeezed, operand)) continue;
      const Extents at = F::extents(part, operand.side);
      turn(operand, at, at.layout, *operand.at(inner),
           static_cast<char*>(const_cast<void*>(out)) + n * at.channels * at.pixels() * element_of(operand, squeezed));
    }
    if (images == 0) break;
  }
}

}  // namespace fastconv
