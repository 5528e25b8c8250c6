// What a call of a family's direction reads and writes, as a list: what runs, tools, bindings and tests loop over.
#pragma once

#include "core/types.h"

namespace fastconv {

/// An activation of a problem: its input x or its output y. A gradient lies as what it is the gradient of.
enum class Side : int8_t { kX, kY };

enum class OperandKind : int8_t {
  kActivation,  // [N, channels, axes ...] of a side, dense in the problem's layout
  kWeight,      // by strides of its own
  kChannels,    // one number of the accumulation type a channel of a side
  kIndex,       // as an activation, of the whole numbers of `F::index_type(problem)`
};
FASTCONV_NAMES(OperandKind, "activation", "weight", "channels", "index");

/// Whole numbers beside a result: which of its inputs each output was.
enum class IndexType : int8_t { kInt64, kUInt8 };
FASTCONV_NAMES(IndexType, "i64", "u8");
constexpr int64_t index_size(IndexType type) { return type == IndexType::kInt64 ? 8 : 1; }

/// One operand of a direction; `at` is its place in the call's arguments.
template <class F>
struct Operand {
  const char* name;  // in tools and in Python; "out" is what the direction computes
  OperandKind kind;
  Side side;  // not of a weight
  const void** (*at)(typename F::Args&);
  bool written = false, optional = false;
};
constexpr int kMostOperands = 8;

/// Whether a call of a problem has an operand: never, where the caller wants it, always.
enum class Presence : int8_t { kNever, kAsked, kAlways };

template <class F>
bool is_image(const Operand<F>& operand) {
  return operand.kind == OperandKind::kActivation || operand.kind == OperandKind::kIndex;
}

/// Bytes of an element of an activation or of indices.
template <class F>
int64_t element_of(const Operand<F>& operand, const typename F::Problem& p) {
  return operand.kind == OperandKind::kIndex ? index_size(F::index_type(p)) : element_size(p.dtype);
}

/// How an activation lies: [N, channels, axes ...] or [N, axes ..., channels], dense; axes are depth, height, width.
struct Extents {
  int64_t N, channels, axes[3];
  Layout layout;
  int64_t pixels() const { return axes[0] * axes[1] * axes[2]; }
  int64_t elements() const { return N * channels * pixels(); }
};

/// Extents or strides of a weight: K, C/groups, T, R, S.
struct WeightAxes {
  int64_t axes[5];
  int64_t elements() const { return axes[0] * axes[1] * axes[2] * axes[3] * axes[4]; }
};

/// The strides of a weight that lies dense as torch keeps it, kcrs, or channels last, krsc.
inline WeightAxes dense_weight(const WeightAxes& extents, Layout layout) {
  const int64_t C = extents.axes[1], T = extents.axes[2], R = extents.axes[3], S = extents.axes[4];
  const int64_t tap = layout == Layout::kNchw ? 1 : C;
  return {{C * T * R * S, layout == Layout::kNchw ? T * R * S : 1, R * S * tap, S * tap, tap}};
}

/// What a family without weights has in their place.
struct NoWeight {
  using Weight = NoWeight;
  template <class Args>
  static NoWeight weight(const Args&) {
    return {};
  }
  template <class Problem>
  static WeightAxes weight_extents(const Problem&) {
    return {};
  }
  template <class Args, class Problem>
  static void set_weight(Args&, void*, const WeightAxes&, const Problem&) {}
};

/// What a family whose results have no indices beside them has in their place.
struct NoIndex {
  template <class Problem>
  static IndexType index_type(const Problem&) {
    return IndexType::kInt64;
  }
  template <class Problem>
  static int64_t any_index(const Problem&, int64_t, uint64_t) {
    return 0;
  }
  template <class Operand, class Problem>
  static Presence presence(const Operand& operand, const Problem&) {
    return operand.optional ? Presence::kAsked : Presence::kAlways;
  }
};

}  // namespace fastconv
