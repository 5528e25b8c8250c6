// A plan run on the CPU.
#pragma once

#include "core/cpu/scratch.h"
#include "core/cpu/transpose.h"
#include "core/run.h"

namespace fastconv {

/// Bytes of transposed activations that one portion of a batch may have.
constexpr int64_t kTransposedBytes = int64_t{16} << 20;

/// Where activations are transposed, images go in portions, so that the copies stay small. A weight gradient sums over
/// all images at once.
template <class F>
int64_t images_at_once(const Plan<F>& plan, const typename F::Problem& squeezed) {
  if (plan.problem == squeezed || squeezed.N <= 1 || !writes_images<F>(plan.row->direction)) return squeezed.N;
  const auto one = F::with_images(squeezed, 1);
  const int64_t image =
      (F::extents(one, Side::kX).elements() + F::extents(one, Side::kY).elements()) * element_size(one.dtype);
  const int64_t fitting = image > 0 ? kTransposedBytes / image : squeezed.N;
  return std::clamp(fitting, int64_t{1}, squeezed.N);
}

/// Runs a plan on operands laid out as `problem` says. Where `args.packed` is null the weight is packed for this call.
/// False when memory for the workspace is not to be had; nothing is written then.
template <class F>
bool run(const Plan<F>& plan, const typename F::Problem& problem, const typename F::Args& given) {
  const auto squeezed = F::squeezed(problem);
  const auto args = F::squeezed(given, problem);
  const Scratch pieces = scratch_for(plan, squeezed, args, images_at_once(plan, squeezed), 64);
  void* memory = pieces.bytes ? scratch(pieces.bytes) : nullptr;
  if (pieces.bytes && !memory) return false;
  run_in(plan, squeezed, args, pieces, memory,
         [](const void* from, void* to, int64_t count, int64_t rows, int64_t columns, int64_t element, void*) {
           transpose(from, to, count, rows, columns, element);
         });
  release_large_scratch();
  return true;
}

/// Bytes of the packed weight of a plan; 0 for kernels that take weights as they lie.
template <class F>
size_t packed_bytes(const Plan<F>& plan) {
  const Kernel<F>& kernel = *plan.row->kernel;
  return kernel.packed_bytes ? kernel.packed_bytes(plan.problem) : 0;
}

/// Packs the weight of `given`, arguments of `problem`, for the plan.
template <class F>
void pack(const Plan<F>& plan, const typename F::Problem& problem, const typename F::Args& given, void* packed) {
  plan.row->kernel->pack(plan.problem, F::weight(F::squeezed(given, problem)), packed);
}

}  // namespace fastconv
