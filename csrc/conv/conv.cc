#include "conv/conv.h"

#include <algorithm>

#include "conv/heuristics.h"
#include "core/cpu/machine.h"
#include "core/cpu/scratch.h"
#include "core/cpu/transpose.h"

namespace fastconv {
namespace {

const ConvRow kRows[] = {
#define FASTCONV_KERNEL(target, direction, numerics, name) \
  {Target::target, Direction::direction, Numerics::numerics, #name, &name},
#include "conv/kernels.inc"
#undef FASTCONV_KERNEL
};

/// The layouts a row is offered: the problem's own first, then channels last on both sides.
ConvProblem with_layouts(const ConvProblem& problem, Layout x, Layout y) {
  ConvProblem other = problem;
  other.x_layout = x;
  other.y_layout = y;
  return other;
}

struct Offer {
  const char* reason;
  ConvProblem problem;
};

Offer offer(const ConvRow& row, const ConvProblem& problem) {
  if (const char* reason = why_not(row.target)) return {reason, problem};
  const char* own_reason = row.kernel->why_not(problem);
  if (!own_reason) return {nullptr, problem};
  const ConvProblem y_only = with_layouts(problem, problem.x_layout, Layout::kNhwc);
  if (y_only != problem && !row.kernel->why_not(y_only)) return {nullptr, y_only};
  const ConvProblem both = with_layouts(problem, Layout::kNhwc, Layout::kNhwc);
  if (both != problem && !row.kernel->why_not(both)) return {nullptr, both};
  return {own_reason, problem};
}

/// Winograd's bound grows with the root of the depth; beyond this depth it leaves the tolerance of Precision::kHigh
/// (docs/numerics.md).
constexpr int64_t kHighDepth = 16384;

const char* too_inexact(Numerics numerics, const ConvProblem& p, Precision precision) {
  if (numerics == Numerics::kExact || precision == Precision::kFast) return nullptr;
  if (precision == Precision::kExact) return "precision is 'exact', which takes no Winograd";
  const int64_t depth = (p.C_per_group() > p.K_per_group() ? p.C_per_group() : p.K_per_group()) * p.R * p.S;
  return depth > kHighDepth ? "the error bound at this depth is outside precision 'high'" : nullptr;
}

/// Bytes of turned activations that one portion of a batch may have.
constexpr int64_t kTurnedBytes = int64_t{16} << 20;

int64_t images_at_once(const ConvProblem& p, Direction direction) {
  if (direction == Direction::kWgrad || p.N <= 1) return p.N;
  const int64_t image = (p.x_elements() + p.y_elements()) / p.N * element_size(p.dtype);
  const int64_t fitting = image > 0 ? kTurnedBytes / image : p.N;
  return fitting < 1 ? 1 : fitting < p.N ? fitting : p.N;
}

/// One piece of the call's scratch memory after another, each aligned to 64.
class Pieces {
 public:
  size_t add(size_t bytes) {
    const size_t at = total_;
    total_ += (bytes + 63) / 64 * 64;
    return at;
  }
  size_t total() const { return total_; }

 private:
  size_t total_ = 0;
};

void to_layout(const ConvProblem& p, bool y, Layout to, const void* from, void* dest) {
  const int64_t channels = y ? p.K : p.C;
  const int64_t pixels = y ? p.Z * p.P * p.Q : p.D * p.H * p.W;
  const int64_t rows = to == Layout::kNhwc ? channels : pixels;
  transpose(from, dest, p.N, rows, to == Layout::kNhwc ? pixels : channels, element_size(p.dtype));
}

}  // namespace

std::span<const ConvRow> conv_rows() { return kRows; }

const ConvRow* find_conv_row(const std::string& name) {
  for (const ConvRow& row : kRows)
    if (name == row.name) return &row;
  return nullptr;
}

const char* why_not(const ConvRow& row, const ConvProblem& problem) { return offer(row, problem).reason; }

const char* why_not_auto(const ConvRow& row, const ConvProblem& problem, Precision precision) {
  if (const char* reason = why_not(row, problem)) return reason;
  if (const char* reason = too_inexact(row.numerics, problem, precision)) return reason;
  return expected_loss(row, problem);
}

ConvPlan plan_for(const ConvRow& row, const ConvProblem& problem) { return {&row, offer(row, problem).problem}; }

ConvPlan choose(Direction direction, const ConvProblem& problem, Precision precision, bool must_win) {
  const ConvRow* first = nullptr;
  for (const ConvRow& row : kRows) {
    if (row.direction != direction || why_not(row, problem) || too_inexact(row.numerics, problem, precision)) continue;
    if (!expected_loss(row, problem)) return plan_for(row, problem);
    if (!first) first = &row;
  }
  if (must_win || !first) return {};
  return plan_for(*first, problem);
}

size_t packed_bytes(const ConvPlan& plan) {
  const ConvKernel& kernel = *plan.row->kernel;
  return kernel.packed_bytes ? kernel.packed_bytes(plan.problem) : 0;
}

void pack(const ConvPlan& plan, const Filter& w, void* packed) { plan.row->kernel->pack(plan.problem, w, packed); }

bool run(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  const ConvKernel& kernel = *plan.row->kernel;
  const Direction direction = plan.row->direction;
  const bool turn_x = plan.problem.x_layout != problem.x_layout;
  const bool turn_y = plan.problem.y_layout != problem.y_layout;
  const bool out_is_x = direction == Direction::kDgrad, out_is_y = direction == Direction::kFprop;
  const bool turn_out = out_is_x ? turn_x : out_is_y && turn_y;
  const bool pack_now = kernel.pack && !args.packed;

  // Where activations are turned, images go in portions, so that the turned copies stay small. A weight gradient sums
  // over all images at once.
  ConvProblem part = problem, inner_part = plan.problem;
  part.N = turn_x || turn_y ? images_at_once(problem, direction) : problem.N;
  inner_part.N = part.N;
  const size_t x_bytes = static_cast<size_t>(part.x_elements() * element_size(part.dtype));
  const size_t y_bytes = static_cast<size_t>(part.y_elements() * element_size(part.dtype));
  Pieces pieces;
  const size_t at_x = pieces.add(turn_x ? x_bytes : 0);
  const size_t at_y = pieces.add(turn_y ? y_bytes : 0);
  const size_t at_residual = pieces.add(turn_out && args.epilogue.residual ? (out_is_x ? x_bytes : y_bytes) : 0);
  const size_t at_packed = pieces.add(pack_now ? kernel.packed_bytes(plan.problem) : 0);
  size_t workspace = kernel.workspace ? kernel.workspace(inner_part) : 0;
  if (kernel.workspace && part.N && problem.N % part.N) {  // the last portion is smaller, its workspace need not be
    ConvProblem last = inner_part;
    last.N = problem.N % part.N;
    workspace = std::max(workspace, kernel.workspace(last));
  }
  const size_t at_workspace = pieces.add(workspace);
  char* memory = pieces.total() ? static_cast<char*>(scratch(pieces.total())) : nullptr;
  if (pieces.total() && !memory) return false;

  ConvArgs inner = args;
  inner.workspace = memory + at_workspace;
  if (pack_now) {
    kernel.pack(plan.problem, args.w, memory + at_packed);
    inner.packed = memory + at_packed;
  }
  for (int64_t n = 0; n == 0 || n < problem.N; n += part.N) {
    if (problem.N - n < part.N) part.N = inner_part.N = problem.N - n;
    const auto image = [&](const void* base, bool y) {
      const int64_t elements =
          n * (y ? problem.K * problem.Z * problem.P * problem.Q : problem.C * problem.D * problem.H * problem.W);
      return base ? static_cast<const char*>(base) + elements * element_size(problem.dtype) : nullptr;
    };
    inner.x = image(args.x, false);
    inner.dy = image(args.dy, true);
    void* out = const_cast<char*>(image(args.out, out_is_y));
    inner.out = out;
    inner.epilogue.residual = image(args.epilogue.residual, out_is_y);
    if (turn_x && !out_is_x) {
      to_layout(part, false, plan.problem.x_layout, inner.x, memory + at_x);
      inner.x = memory + at_x;
    }
    if (turn_y && !out_is_y) {
      to_layout(part, true, plan.problem.y_layout, inner.dy, memory + at_y);
      inner.dy = memory + at_y;
    }
    if (turn_out) {
      inner.out = memory + (out_is_x ? at_x : at_y);
      if (args.epilogue.residual) {
        const Layout layout = out_is_x ? plan.problem.x_layout : plan.problem.y_layout;
        to_layout(part, out_is_y, layout, inner.epilogue.residual, memory + at_residual);
        inner.epilogue.residual = memory + at_residual;
      }
    }
    kernel.run(inner_part, inner);
    if (turn_out) to_layout(part, out_is_y, out_is_x ? problem.x_layout : problem.y_layout, inner.out, out);
    if (part.N == 0) break;
  }
  release_large_scratch();
  return true;
}

}  // namespace fastconv
