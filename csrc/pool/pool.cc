#include "pool/pool.h"

namespace fastconv {

extern const PoolKernel pool_fprop_ref, pool_dgrad_ref;

namespace {

using Op = Operand<Pool>;

const void** x_of(PoolArgs& a) { return &a.x; }
const void** dy_of(PoolArgs& a) { return &a.dy; }
const void** out_of(PoolArgs& a) { return const_cast<const void**>(&a.out); }
const void** scale_of(PoolArgs& a) { return &a.epilogue.scale; }
const void** shift_of(PoolArgs& a) { return &a.epilogue.shift; }
const void** residual_of(PoolArgs& a) { return &a.epilogue.residual; }

constexpr Op kFpropOperands[] = {
    {"x", OperandKind::kActivation, Side::kX, x_of},
    {"out", OperandKind::kActivation, Side::kY, out_of, true},
    {"scale", OperandKind::kChannels, Side::kY, scale_of, false, true},
    {"shift", OperandKind::kChannels, Side::kY, shift_of, false, true},
    {"residual", OperandKind::kActivation, Side::kY, residual_of, false, true},
};
constexpr Op kDgradOperands[] = {
    {"dy", OperandKind::kActivation, Side::kY, dy_of},
    {"out", OperandKind::kActivation, Side::kX, out_of, true},
};

}  // namespace

std::span<const Op> Pool::operands(Direction direction) {
  if (direction == Direction::kFprop) return kFpropOperands;
  if (direction == Direction::kDgrad) return kDgradOperands;
  return {};
}

const PoolKernel& Pool::reference(Direction direction) {
  return direction == Direction::kFprop ? pool_fprop_ref : pool_dgrad_ref;
}

}  // namespace fastconv
