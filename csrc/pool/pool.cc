#include "pool/pool.h"

#include "pool/window.h"

namespace fastconv {

extern const PoolKernel pool_fprop_ref, pool_dgrad_ref;

namespace {

using Op = Operand<Pool>;

const void** x_of(PoolArgs& a) { return &a.x; }
const void** dy_of(PoolArgs& a) { return &a.dy; }
const void** index_of_call(PoolArgs& a) { return const_cast<const void**>(&a.index); }
const void** uniform_of(PoolArgs& a) { return &a.uniform; }
const void** out_of(PoolArgs& a) { return const_cast<const void**>(&a.out); }
const void** scale_of(PoolArgs& a) { return &a.epilogue.scale; }
const void** shift_of(PoolArgs& a) { return &a.epilogue.shift; }
const void** residual_of(PoolArgs& a) { return &a.epilogue.residual; }

constexpr Op kFpropOperands[] = {
    {"x", OperandKind::kActivation, Side::kX, x_of},
    {"uniform", OperandKind::kActivation, Side::kY, uniform_of},
    {"out", OperandKind::kActivation, Side::kY, out_of, true},
    {"index", OperandKind::kIndex, Side::kY, index_of_call, true, true},
    {"scale", OperandKind::kChannels, Side::kY, scale_of, false, true},
    {"shift", OperandKind::kChannels, Side::kY, shift_of, false, true},
    {"residual", OperandKind::kActivation, Side::kY, residual_of, false, true},
};
constexpr Op kDgradOperands[] = {
    {"dy", OperandKind::kActivation, Side::kY, dy_of},
    {"index", OperandKind::kIndex, Side::kY, index_of_call, false, true},
    {"out", OperandKind::kActivation, Side::kX, out_of, true},
};

constexpr PoolRow kCudaNames[] = {
#define FASTCONV_KERNEL(isa, direction, numerics, name) \
  {{target::isa, FamilyId::kPool, Direction::direction, Numerics::numerics, #name}, nullptr},
#include "pool/cuda/kernels.inc"
#undef FASTCONV_KERNEL
};

}  // namespace

std::span<const PoolRow> Pool::cuda_names() { return kCudaNames; }

std::span<const Op> Pool::operands(Direction direction) {
  if (direction == Direction::kFprop) return kFpropOperands;
  if (direction == Direction::kDgrad) return kDgradOperands;
  return {};
}

Presence Pool::presence(const Op& operand, const Problem& p) {
  if (operand.at == uniform_of) return p.mode == PoolMode::kSto ? Presence::kAlways : Presence::kNever;
  if (operand.optional && operand.kind != OperandKind::kIndex)
    return is_integer(p.dtype) ? Presence::kNever : Presence::kAsked;
  if (operand.kind != OperandKind::kIndex) return Presence::kAlways;
  if (p.mode == PoolMode::kAvg) return Presence::kNever;
  return operand.written ? Presence::kAsked : Presence::kAlways;
}

int64_t Pool::any_index(const Problem& p, int64_t element, uint64_t random) {
  const int64_t pixel = (p.y_layout == Layout::kNhwc ? element / p.C : element) % (p.Z * p.P * p.Q);
  const PoolWindow windows[] = {window_of(depth_of(p), pixel / (p.P * p.Q)), window_of(height_of(p), pixel / p.Q % p.P),
                                window_of(width_of(p), pixel % p.Q)};
  int64_t taps[3];
  for (int i = 0; i < 3; ++i) {
    taps[i] =
        windows[i].taps.begin + static_cast<int64_t>(random % 1000) % std::max<int64_t>(windows[i].taps.count(), 1);
    random /= 1000;
  }
  return index_of(p, windows[0], taps[0], windows[1], taps[1], windows[2], taps[2]);
}

const PoolKernel& Pool::reference(Direction direction) {
  return direction == Direction::kFprop ? pool_fprop_ref : pool_dgrad_ref;
}

}  // namespace fastconv
