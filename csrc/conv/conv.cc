#include "conv/conv.h"

#include "conv/heuristics.h"
#include "conv/run.h"
#include "core/cpu/machine.h"
#include "core/cpu/scratch.h"
#include "core/cpu/transpose.h"

namespace fastconv {
namespace {

const ConvRow kRows[] = {
#define FASTCONV_KERNEL(target, direction, numerics, name) \
  {Target::target, Direction::direction, Numerics::numerics, #name, &name},
#include "conv/kernels.inc"
#undef FASTCONV_KERNEL
};

/// Bytes of turned activations that one portion of a batch may have.
constexpr int64_t kTurnedBytes = int64_t{16} << 20;

/// Where activations are turned, images go in portions, so that the turned copies stay small. A weight gradient sums
/// over all images at once.
int64_t images_at_once(const ConvPlan& plan, const ConvProblem& p) {
  if (plan.problem == p || plan.row->direction == Direction::kWgrad || p.N <= 1) return p.N;
  const int64_t image = (p.x_elements() + p.y_elements()) / p.N * element_size(p.dtype);
  const int64_t fitting = image > 0 ? kTurnedBytes / image : p.N;
  return fitting < 1 ? 1 : fitting < p.N ? fitting : p.N;
}

void transpose_here(const ConvProblem& p, const void* from, void* to, int64_t rows, int64_t columns, void*) {
  transpose(from, to, p.N, rows, columns, element_size(p.dtype));
}

}  // namespace

std::span<const ConvRow> conv_rows() { return kRows; }

const ConvTable& conv_table() {
  static constexpr ConvTable table = {.rows = kRows,
                                      .why_not_target = [](Target target, int) { return why_not(target); },
                                      .expected_loss = expected_loss};
  return table;
}

size_t packed_bytes(const ConvPlan& plan) {
  const ConvKernel& kernel = *plan.row->kernel;
  return kernel.packed_bytes ? kernel.packed_bytes(plan.problem) : 0;
}

void pack(const ConvPlan& plan, const Filter& w, void* packed) { plan.row->kernel->pack(plan.problem, w, packed); }

bool run(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  const Scratch pieces = scratch_for(plan, problem, args, images_at_once(plan, problem), 64);
  void* memory = pieces.bytes ? scratch(pieces.bytes) : nullptr;
  if (pieces.bytes && !memory) return false;
  run_in(plan, problem, args, pieces, memory, transpose_here);
  release_large_scratch();
  return true;
}

}  // namespace fastconv
