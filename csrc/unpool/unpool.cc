#include "unpool/unpool.h"

namespace fastconv {

extern const UnpoolKernel unpool_fprop_ref, unpool_dgrad_ref;

namespace {

using Op = Operand<Unpool>;

const void** x_of(UnpoolArgs& a) { return &a.x; }
const void** dy_of(UnpoolArgs& a) { return &a.dy; }
const void** index_of_call(UnpoolArgs& a) { return &a.index; }
const void** out_of(UnpoolArgs& a) { return const_cast<const void**>(&a.out); }

constexpr Op kFpropOperands[] = {
    {"x", OperandKind::kActivation, Side::kX, x_of},
    {"index", OperandKind::kIndex, Side::kX, index_of_call},
    {"out", OperandKind::kActivation, Side::kY, out_of, true},
};
constexpr Op kDgradOperands[] = {
    {"dy", OperandKind::kActivation, Side::kY, dy_of},
    {"index", OperandKind::kIndex, Side::kX, index_of_call},
    {"out", OperandKind::kActivation, Side::kX, out_of, true},
};

}  // namespace

std::span<const Op> Unpool::operands(Direction direction) {
  if (direction == Direction::kFprop) return kFpropOperands;
  if (direction == Direction::kDgrad) return kDgradOperands;
  return {};
}

const UnpoolKernel& Unpool::reference(Direction direction) {
  return direction == Direction::kFprop ? unpool_fprop_ref : unpool_dgrad_ref;
}

}  // namespace fastconv
