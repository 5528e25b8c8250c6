#include "conv/conv.h"

namespace fastconv {

extern const ConvKernel conv_fprop_ref, conv_dgrad_ref, conv_wgrad_ref;

namespace {

using Op = Operand<Conv>;

const void** x_of(ConvArgs& a) { return &a.x; }
const void** dy_of(ConvArgs& a) { return &a.dy; }
const void** w_of(ConvArgs& a) { return const_cast<const void**>(&a.w.data); }
const void** out_of(ConvArgs& a) { return const_cast<const void**>(&a.out); }
const void** scale_of(ConvArgs& a) { return &a.epilogue.scale; }
const void** shift_of(ConvArgs& a) { return &a.epilogue.shift; }
const void** residual_of(ConvArgs& a) { return &a.epilogue.residual; }

constexpr OperandKind kActivation = OperandKind::kActivation, kWeight = OperandKind::kWeight,
                      kChannels = OperandKind::kChannels;

constexpr Op kFpropOperands[] = {
    {"x", kActivation, Side::kX, x_of},
    {"w", kWeight, Side::kX, w_of},
    {"out", kActivation, Side::kY, out_of, true},
    {"scale", kChannels, Side::kY, scale_of, false, true},
    {"shift", kChannels, Side::kY, shift_of, false, true},
    {"residual", kActivation, Side::kY, residual_of, false, true},
};
constexpr Op kDgradOperands[] = {
    {"dy", kActivation, Side::kY, dy_of},
    {"w", kWeight, Side::kX, w_of},
    {"out", kActivation, Side::kX, out_of, true},
    {"scale", kChannels, Side::kX, scale_of, false, true},
    {"shift", kChannels, Side::kX, shift_of, false, true},
    {"residual", kActivation, Side::kX, residual_of, false, true},
};
constexpr Op kWgradOperands[] = {
    {"x", kActivation, Side::kX, x_of},
    {"dy", kActivation, Side::kY, dy_of},
    {"out", kWeight, Side::kX, w_of, true},
};

/// Winograd's bound grows with the root of the depth; beyond this depth it leaves the tolerance of Precision::kHigh
/// (docs/numerics.md).
constexpr int64_t kHighDepth = 16384;

constexpr ConvRow kCudaNames[] = {
#define FASTCONV_KERNEL(isa, direction, numerics, name) \
  {{target::isa, FamilyId::kConv, Direction::direction, Numerics::numerics, #name}, nullptr},
#include "conv/cuda/kernels.inc"
#undef FASTCONV_KERNEL
};

}  // namespace

std::span<const ConvRow> Conv::cuda_names() { return kCudaNames; }

std::span<const Op> Conv::operands(Direction direction) {
  switch (direction) {
    case Direction::kFprop: return kFpropOperands;
    case Direction::kDgrad: return kDgradOperands;
    case Direction::kWgrad: return kWgradOperands;
  }
  return {};
}

const char* Conv::too_inexact(Numerics numerics, const ConvProblem& p, Precision precision, bool allow_tf32) {
  if (numerics == Numerics::kExact) return nullptr;
  if (numerics == Numerics::kTF32) {
    if (precision == Precision::kExact) return "precision is 'exact', which takes no TF32";
    return allow_tf32 ? nullptr : "torch's switch for convolutions in TF32 is off";
  }
  if (precision == Precision::kFast) return nullptr;
  if (precision == Precision::kExact) return "precision is 'exact', which takes no Winograd";
  const int64_t channels = p.C_per_group() > p.K_per_group() ? p.C_per_group() : p.K_per_group();
  return channels * p.R * p.S > kHighDepth ? "the error bound at this depth is outside precision 'high'" : nullptr;
}

int64_t Conv::depth(const ConvProblem& p, Direction direction) {
  switch (direction) {
    case Direction::kFprop: return p.C_per_group() * p.T * p.R * p.S;
    case Direction::kDgrad: return p.K_per_group() * p.T * p.R * p.S;
    case Direction::kWgrad: return p.N * p.Z * p.P * p.Q;
  }
  return 0;
}

const ConvKernel& Conv::reference(Direction direction) {
  switch (direction) {
    case Direction::kFprop: return conv_fprop_ref;
    case Direction::kDgrad: return conv_dgrad_ref;
    case Direction::kWgrad: return conv_wgrad_ref;
  }
  return conv_fprop_ref;
}

Filter adjoint(const Filter& filter, const ConvProblem& p) {
  Filter f = filter;
  const int64_t last = (p.T - 1) * f.stride_t + (p.R - 1) * f.stride_r + (p.S - 1) * f.stride_s;
  f.data = static_cast<char*>(filter.data) + last * element_size(p.dtype);
  f.stride_k = filter.stride_c, f.stride_c = filter.stride_k;
  f.stride_t = -filter.stride_t, f.stride_r = -filter.stride_r, f.stride_s = -filter.stride_s;
  return f;
}

}  // namespace fastconv
