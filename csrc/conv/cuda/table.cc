#include "conv/cuda/table.h"

#include "conv/cuda/heuristics.h"
#include "core/cuda/run.h"

namespace fastconv {
namespace {

constexpr ConvRow kRows[] = {
#define FASTCONV_KERNEL(isa, direction, numerics, name) \
  {{target::isa, FamilyId::kConv, Direction::direction, Numerics::numerics, #name}, &name},
#include "conv/cuda/kernels.inc"
#undef FASTCONV_KERNEL
};

}  // namespace

std::span<const ConvRow> Conv::cuda_rows() { return kRows; }

ConvTable Conv::cuda_table(int capability, bool allow_tf32) {
  return {.rows = kRows,
          .why_not_target = why_not_on_gpu,
          .expected_loss = expected_loss_cuda,
          .capability = capability,
          .allow_tf32 = allow_tf32};
}

}  // namespace fastconv
