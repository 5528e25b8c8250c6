// The pooling family: its operands, and its record for the templates of core.
#pragma once

#include <span>

#include "core/epilogue.h"
#include "core/operand.h"
#include "core/table.h"
#include "pool/problem.h"

namespace fastconv {

/// Operands of one call, dense in the problem's layouts. fprop reads x, and the numbers by which a stochastic pool
/// draws, and writes out = y, and the indices of a maximum or a sample where they are asked for; dgrad reads dy, and
/// the indices, and writes out = dx. Every element of the output is written.
struct PoolArgs : CallArgs {
  const void* x = nullptr;
  const void* dy = nullptr;
  const void* uniform = nullptr;  // lies as y
  void* index = nullptr;          // lies as y
  void* out = nullptr;
};

struct Pool : NoWeight {
  using Problem = PoolProblem;
  using Args = PoolArgs;
  static constexpr FamilyId kId = FamilyId::kPool;
  static constexpr Direction kDirections[] = {Direction::kFprop, Direction::kDgrad};

  static bool claims(const std::string& text) {
    for (const char* mode : {"_avg", "_max", "_sto"})
      if (text.find(mode) != std::string::npos) return true;
    return false;
  }
  static Problem decode(const std::string& text) { return decode_pool(text); }
  static Problem squeezed(const Problem& p) { return fastconv::squeezed(p); }
  static Args squeezed(const Args& args, const Problem&) { return args; }
  static Problem with_images(Problem p, int64_t images) {
    p.N = images;
    return p;
  }
  static Extents extents(const Problem& p, Side side) {
    if (side == Side::kX) return {p.N, p.C, {p.D, p.H, p.W}, p.x_layout};
    return {p.N, p.C, {p.Z, p.P, p.Q}, p.y_layout};
  }
  static IndexType index_type(const Problem& p) { return p.index; }
  /// An index that the output at `element` of y's memory may have.
  static int64_t any_index(const Problem& p, int64_t element, uint64_t random);
  static Presence presence(const Operand<Pool>& operand, const Problem& p);
  static bool has_depth(const Problem& p) { return !p.is_2d(); }
  static std::span<const Operand<Pool>> operands(Direction direction);

  static Forms<Problem> forms(const Problem& p) { return channels_last_forms(p); }
  static const char* why_only_reference(const Problem&) { return nullptr; }
  static const char* too_inexact(Numerics, const Problem&, Precision, bool) { return nullptr; }

  static std::span<const Row<Pool>> cpu_rows();
  static const Table<Pool>& cpu_table();
  static std::span<const Row<Pool>> cuda_rows();
  static Table<Pool> cuda_table(int capability, bool allow_tf32);
  /// The CUDA rows that a build with nvcc has, without their kernels.
  static std::span<const Row<Pool>> cuda_names();
  static const Kernel<Pool>& reference(Direction direction);

  static int64_t macs(const Problem& p) { return p.y_elements() * p.taps(); }
  static int64_t depth(const Problem& p, Direction) { return p.taps(); }
  /// A mean is a binary fraction where it is by a power of two.
  static bool is_exact_on_integers(const Problem& p, Direction) {
    if (p.mode != PoolMode::kAvg) return true;
    return p.divisor > 0 && (p.divisor & (p.divisor - 1)) == 0;
  }
};

using PoolKernel = Kernel<Pool>;
using PoolRow = Row<Pool>;

}  // namespace fastconv
