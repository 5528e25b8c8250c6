// A kernel's row in its family's table, and what a kernel's file exports.
#pragma once

#include <cstddef>
#include <iterator>

#include "core/target.h"
#include "core/types.h"

namespace fastconv {

enum class FamilyId : int8_t {
#define FASTCONV_FAMILY(name, Type) k##Type,
#include "families.inc"
#undef FASTCONV_FAMILY
};
template <>
struct Names<FamilyId> {
  static constexpr const char* kAll[] = {
#define FASTCONV_FAMILY(name, Type) #name,
#include "families.inc"
#undef FASTCONV_FAMILY
  };
  static constexpr size_t kCount = std::size(kAll);
};

/// A direction of a family: what settings and plans are kept by.
constexpr int kMostDirections = 3;
constexpr int kSlots = static_cast<int>(Names<FamilyId>::kCount) * kMostDirections;
constexpr int slot_of(FamilyId family, Direction direction) {
  return static_cast<int>(family) * kMostDirections + static_cast<int>(direction);
}

/// How a kernel goes about it; a family's heuristics speak of algorithms, never of single rows.
enum class Algorithm : int8_t {
  kRef,         // the definition, one output at a time
  kDirect,      // a register tile of outputs, the window's taps in the inner loop
  kPointwise,   // 1x1: a matrix product on the activations as they lie
  kIm2col,      // the explicit matrix, then a matrix product
  kIgemm,       // implicit GEMM: the matrix is gathered tile by tile
  kWinogradF2,  // F(2x2, 3x3)
  kWinogradF4,  // F(4x4, 3x3)
  kDepthwise,   // one channel a group
  kGrouped,     // a few channels a group, several groups in one vector
  kStem,        // a handful of input channels, read as NCHW or NHWC
  kGlobal,      // the image is one window
  kScatter,     // each output adds to its one input
};
FASTCONV_NAMES(Algorithm, "ref", "direct", "pointwise", "im2col", "igemm", "winograd_f2", "winograd_f4", "depthwise",
               "grouped", "stem", "global", "scatter");

/// What a kernel's file exports. A kernel never allocates, never throws, and splits its work by `parallel_for`.
template <class F>
struct Kernel {
  using Problem = typename F::Problem;
  using Args = typename F::Args;

  Algorithm algorithm;
  /// Null where the kernel takes the problem, else the reason in words.
  const char* (*why_not)(const Problem&);
  void (*run)(const Problem&, const Args&);
  size_t (*workspace)(const Problem&) = nullptr;
  /// The packed weight depends on what `F::packing_key` names alone, so that it serves every image size and batch.
  size_t (*packed_bytes)(const Problem&) = nullptr;
  void (*pack)(const Problem&, const typename F::Weight&, void* packed) = nullptr;
};

/// What is known of a row without its family's types.
struct RowBase {
  Target target;
  FamilyId family;
  Direction direction;
  Numerics numerics;
  const char* name;

  int slot() const { return slot_of(family, direction); }
};

/// `kernel` is null in rows that another library runs, and in those of a build without them.
template <class F>
struct Row : RowBase {
  const Kernel<F>* kernel;
};

/// Opens the definition of a kernel's record: `FASTCONV_DEFINE(Conv, conv_fprop_ref) = {...};`
#define FASTCONV_DEFINE(Type, name) \
  extern const Kernel<Type> name;   \
  const Kernel<Type> name

}  // namespace fastconv
