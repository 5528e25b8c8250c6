#include "core/cpu/machine.h"
#include "pool/heuristics.h"
#include "pool/pool.h"

namespace fastconv {

#define FASTCONV_KERNEL(isa, direction, numerics, name) extern const PoolKernel name;
#include "pool/kernels.inc"
#undef FASTCONV_KERNEL

namespace {

constexpr PoolRow kRows[] = {
#define FASTCONV_KERNEL(isa, direction, numerics, name) \
  {{target::isa, FamilyId::kPool, Direction::direction, Numerics::numerics, #name}, &name},
#include "pool/kernels.inc"
#undef FASTCONV_KERNEL
};

constexpr Table<Pool> kTable = {.rows = kRows,
                                .why_not_target = [](const Target& target, int) { return why_not(target); },
                                .expected_loss = pool_expected_loss};

}  // namespace

std::span<const PoolRow> Pool::cpu_rows() { return kRows; }
const Table<Pool>& Pool::cpu_table() { return kTable; }

}  // namespace fastconv
