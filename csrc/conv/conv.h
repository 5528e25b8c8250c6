// The convolution family: its operands, and its record for the templates of core.
#pragma once

#include <span>

#include "conv/problem.h"
#include "core/epilogue.h"
#include "core/host_device.h"
#include "core/operand.h"
#include "core/table.h"

namespace fastconv {

/// A weight by base and strides in elements: element (g, k, c, t, r, s), k and c counted inside the group.
struct Filter {
  void* data = nullptr;
  int64_t stride_g = 0, stride_k = 0, stride_c = 0, stride_t = 0, stride_r = 0, stride_s = 0;

  FASTCONV_HOST_DEVICE int64_t offset(int64_t g, int64_t k, int64_t c, int64_t t, int64_t r, int64_t s) const {
    return g * stride_g + k * stride_k + c * stride_c + t * stride_t + r * stride_r + s * stride_s;
  }
};

/// The filter of `adjoint(problem)`: taps flipped, C and K exchanged; the same memory.
Filter adjoint(const Filter& filter, const ConvProblem& problem);
/// The filter of `squeezed(problem)`.
Filter squeezed(const Filter& filter, const ConvProblem& problem);

/// Operands of one call. Activations are dense in the problem's layout.
///
/// fprop reads x, w and writes out = y; dgrad reads dy, w and writes out = dx; wgrad reads x, dy and writes dw, whose
/// strides are the weight's. Every element of the output is written. Pointers need the alignment of their element.
struct ConvArgs : CallArgs {
  const void* x = nullptr;
  const void* dy = nullptr;
  Filter w;             // the weight, or for wgrad the output dw
  void* out = nullptr;  // y or dx; not the residual's memory
};

struct Conv : NoIndex {
  using Problem = ConvProblem;
  using Args = ConvArgs;
  using Weight = Filter;
  static constexpr FamilyId kId = FamilyId::kConv;
  static constexpr Direction kDirections[] = {Direction::kFprop, Direction::kDgrad, Direction::kWgrad};

  /// Whether a problem's text is of this family: only a filter has output channels.
  static bool claims(const std::string& text) { return text.find("_k") != std::string::npos; }
  static Problem decode(const std::string& text) { return fastconv::decode(text); }
  static Problem squeezed(const Problem& p) { return fastconv::squeezed(p); }
  static Args squeezed(Args args, const Problem& p) {
    args.w = fastconv::squeezed(args.w, p);
    return args;
  }
  static Problem with_images(Problem p, int64_t images) {
    p.N = images;
    return p;
  }
  static Extents extents(const Problem& p, Side side) {
    if (side == Side::kX) return {p.N, p.C, {p.D, p.H, p.W}, p.x_layout};
    return {p.N, p.K, {p.Z, p.P, p.Q}, p.y_layout};
  }
  static bool has_depth(const Problem& p) { return !p.is_2d(); }
  static const Weight& weight(const Args& args) { return args.w; }
  static std::span<const Operand<Conv>> operands(Direction direction);

  static Forms<Problem> forms(const Problem& p) { return channels_last_forms(p); }
  static const char* why_only_reference(const Problem& p) {
    if (p.w_elements() == 0) return "takes a weight that is not empty";
    return reach(p) > kMostReach ? "takes strides, paddings and dilations that stay within 2^36 pixels" : nullptr;
  }
  static const char* too_inexact(Numerics numerics, const Problem& p, Precision precision, bool allow_tf32);

  /// The rows of each kind of device, and their tables; the CUDA rows where they were built.
  static std::span<const Row<Conv>> cpu_rows();
  static const Table<Conv>& cpu_table();
  static std::span<const Row<Conv>> cuda_rows();
  static Table<Conv> cuda_table(int capability, bool allow_tf32);
  /// The CUDA rows that a build with nvcc has, without their kernels.
  static std::span<const Row<Conv>> cuda_names();

  /// The CPU's reference of a direction, which takes everything.
  static const Kernel<Conv>& reference(Direction direction);
  /// Products of the direct sums; how many one output of a direction sums.
  static int64_t macs(const Problem& p) { return p.macs(); }
  static int64_t depth(const Problem& p, Direction direction);
  /// Whether integers give true sums in every order; the row's class may say no.
  static bool is_exact_on_integers(const Problem&, Direction) { return true; }
  static WeightAxes weight_extents(const Problem& p) { return {{p.K, p.C_per_group(), p.T, p.R, p.S}}; }
  static void set_weight(Args& args, void* data, const WeightAxes& strides, const Problem& p) {
    const auto& s = strides.axes;
    args.w = {data, p.K_per_group() * s[0], s[0], s[1], s[2], s[3], s[4]};
  }
};

using ConvKernel = Kernel<Conv>;
using ConvRow = Row<Conv>;
using ConvPlan = Plan<Conv>;
using ConvTable = Table<Conv>;

}  // namespace fastconv
