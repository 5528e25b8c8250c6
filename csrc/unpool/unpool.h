// The family that undoes maxima: its operands, and its record for the templates of core.
#pragma once

#include <algorithm>
#include <span>

#include "core/epilogue.h"
#include "core/operand.h"
#include "core/table.h"
#include "unpool/problem.h"

namespace fastconv {

/// An index that a kernel was given and that is none of the output's: one of them, where there are several.
struct StrayIndex {
  int64_t value = 0;
  bool found = false;
  /// From any thread.
  void note(int64_t index) {
    __atomic_store_n(&value, index, __ATOMIC_RELAXED);
    __atomic_store_n(&found, true, __ATOMIC_RELAXED);
  }
};

/// Operands of one call, dense in the problem's layouts. fprop reads x and writes out = y, dgrad reads dy and writes
/// out = dx; both read the index, which lies as x. Every element of the output is written. An index that is none of the
/// output's is noted in `stray`, and nothing is read or written by it.
struct UnpoolArgs : CallArgs {
  const void* x = nullptr;
  const void* dy = nullptr;
  const void* index = nullptr;
  void* out = nullptr;
  StrayIndex* stray = nullptr;  // of the host; may be null
};

struct Unpool : NoWeight {
  using Problem = UnpoolProblem;
  using Args = UnpoolArgs;
  static constexpr FamilyId kId = FamilyId::kUnpool;
  static constexpr Direction kDirections[] = {Direction::kFprop, Direction::kDgrad};

  static bool claims(const std::string& text) { return text.find("_unpool") != std::string::npos; }
  static Problem decode(const std::string& text) { return decode_unpool(text); }
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
  static IndexType index_type(const Problem&) { return IndexType::kInt64; }
  static int64_t any_index(const Problem& p, int64_t, uint64_t random) {
    return static_cast<int64_t>(random % static_cast<uint64_t>(std::max<int64_t>(p.y_pixels(), 1)));
  }
  static Presence presence(const Operand<Unpool>&, const Problem&) { return Presence::kAlways; }
  static bool has_depth(const Problem& p) { return !p.is_2d(); }
  static std::span<const Operand<Unpool>> operands(Direction direction);

  static Forms<Problem> forms(const Problem& p) { return channels_last_forms(p); }
  static const char* why_only_reference(const Problem&) { return nullptr; }
  static const char* too_inexact(Numerics, const Problem&, Precision, bool) { return nullptr; }

  static std::span<const Row<Unpool>> cpu_rows();
  static const Table<Unpool>& cpu_table();
  static std::span<const Row<Unpool>> cuda_rows() { return {}; }
  static Table<Unpool> cuda_table(int, bool) {
    return {.rows = {}, .why_not_target = nullptr, .expected_loss = nullptr};
  }
  static std::span<const Row<Unpool>> cuda_names() { return {}; }
  static const Kernel<Unpool>& reference(Direction direction);

  static int64_t macs(const Problem& p) { return p.N * p.C * p.x_pixels(); }
  static int64_t depth(const Problem&, Direction) { return 1; }
  static bool is_exact_on_integers(const Problem&, Direction) { return true; }
};

using UnpoolKernel = Kernel<Unpool>;
using UnpoolRow = Row<Unpool>;

}  // namespace fastconv
