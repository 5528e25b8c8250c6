#include "core/cpu/machine.h"
#include "unpool/heuristics.h"
#include "unpool/unpool.h"

namespace fastconv {

#define FASTCONV_KERNEL(isa, direction, numerics, name) extern const UnpoolKernel name;
#include "unpool/kernels.inc"
#undef FASTCONV_KERNEL

namespace {

constexpr UnpoolRow kRows[] = {
#define FASTCONV_KERNEL(isa, direction, numerics, name) \
  {{target::isa, FamilyId::kUnpool, Direction::direction, Numerics::numerics, #name}, &name},
#include "unpool/kernels.inc"
#undef FASTCONV_KERNEL
};

constexpr Table<Unpool> kTable = {.rows = kRows,
                                  .why_not_target = [](const Target& target, int) { return why_not(target); },
                                  .expected_loss = unpool_expected_loss};

}  // namespace

std::span<const UnpoolRow> Unpool::cpu_rows() { return kRows; }
const Table<Unpool>& Unpool::cpu_table() { return kTable; }

}  // namespace fastconv
