#include "conv/cpu/table.h"

#include "conv/heuristics.h"
#include "core/cpu/machine.h"

namespace fastconv {
namespace {

constexpr ConvRow kRows[] = {
#define FASTCONV_KERNEL(isa, direction, numerics, name) \
  {{target::isa, FamilyId::kConv, Direction::direction, Numerics::numerics, #name}, &name},
#include "conv/kernels.inc"
#undef FASTCONV_KERNEL
};

constexpr ConvTable kTable = {.rows = kRows,
                              .why_not_target = [](const Target& target, int) { return why_not(target); },
                              .expected_loss = expected_loss,
                              .torch_is_wrong = torch_is_wrong};

}  // namespace

std::span<const ConvRow> Conv::cpu_rows() { return kRows; }
const ConvTable& Conv::cpu_table() { return kTable; }

}  // namespace fastconv
