#include "pool/cuda/table.h"

#include "core/cuda/run.h"
#include "pool/cuda/heuristics.h"

namespace fastconv {
namespace {

constexpr PoolRow kRows[] = {
#define FASTCONV_KERNEL(isa, direction, numerics, name) \
  {{target::isa, FamilyId::kPool, Direction::direction, Numerics::numerics, #name}, &name},
#include "pool/cuda/kernels.inc"
#undef FASTCONV_KERNEL
};

}  // namespace

std::span<const PoolRow> Pool::cuda_rows() { return kRows; }

Table<Pool> Pool::cuda_table(int capability, bool allow_tf32) {
  return {.rows = kRows,
          .why_not_target = why_not_on_gpu,
          .expected_loss = pool_expected_loss_cuda,
          .capability = capability,
          .allow_tf32 = allow_tf32};
}

}  // namespace fastconv
