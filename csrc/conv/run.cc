#include "conv/run.h"

#include <algorithm>

namespace fastconv {
namespace {

bool turns_x(const ConvPlan& plan, const ConvProblem& problem) { return plan.problem.x_layout != problem.x_layout; }
bool turns_y(const ConvPlan& plan, const ConvProblem& problem) { return plan.problem.y_layout != problem.y_layout; }

bool turns_out(const ConvPlan& plan, const ConvProblem& problem) {
  switch (plan.row->direction) {
    case Direction::kFprop: return turns_y(plan, problem);
    case Direction::kDgrad: return turns_x(plan, problem);
    case Direction::kWgrad: return false;
  }
  return false;
}

bool packs_now(const ConvPlan& plan, const ConvArgs& args) { return plan.row->kernel->pack && !args.packed; }

struct Turn {
  Transpose transpose;
  void* stream;

  void operator()(const ConvProblem& p, bool y, Layout to, const void* from, void* dest) const {
    const int64_t channels = y ? p.K : p.C, pixels = y ? p.Z * p.P * p.Q : p.D * p.H * p.W;
    const bool last = to == Layout::kNhwc;
    transpose(p, from, dest, last ? channels : pixels, last ? pixels : channels, stream);
  }
};

}  // namespace

Scratch scratch_for(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args, int64_t images,
                    size_t alignment) {
  const ConvKernel& kernel = *plan.row->kernel;
  Scratch s;
  s.images = images;
  const auto add = [&](size_t bytes) {
    const size_t at = s.bytes;
    s.bytes += (bytes + alignment - 1) / alignment * alignment;
    return at;
  };
  ConvProblem part = problem, inner_part = plan.problem;
  part.N = inner_part.N = images;
  const size_t x_bytes = static_cast<size_t>(part.x_elements() * element_size(part.dtype));
  const size_t y_bytes = static_cast<size_t>(part.y_elements() * element_size(part.dtype));
  s.x = add(turns_x(plan, problem) ? x_bytes : 0);
  s.y = add(turns_y(plan, problem) ? y_bytes : 0);
  const bool copies_residual = turns_out(plan, problem) && args.epilogue.residual;
  s.residual = add(!copies_residual ? 0 : plan.row->direction == Direction::kDgrad ? x_bytes : y_bytes);
  s.packed = add(packs_now(plan, args) ? kernel.packed_bytes(plan.problem) : 0);
  size_t workspace = kernel.workspace ? kernel.workspace(inner_part) : 0;
  if (kernel.workspace && images && problem.N % images) {  // the last portion is smaller, its workspace need not be
    inner_part.N = problem.N % images;
    workspace = std::max(workspace, kernel.workspace(inner_part));
  }
  s.workspace = add(workspace);
  return s;
}

void run_in(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args, const Scratch& scratch,
            void* scratch_memory, Transpose transpose) {
  const ConvKernel& kernel = *plan.row->kernel;
  const bool out_is_x = plan.row->direction == Direction::kDgrad, out_is_y = plan.row->direction == Direction::kFprop;
  const bool turn_x = turns_x(plan, problem), turn_y = turns_y(plan, problem), turn_out = turns_out(plan, problem);
  char* memory = static_cast<char*>(scratch_memory);
  const Turn turn{transpose, args.stream};

  ConvArgs inner = args;
  inner.workspace = memory + scratch.workspace;
  if (packs_now(plan, args)) {
    kernel.pack(plan.problem, args.w, memory + scratch.packed);
    inner.packed = memory + scratch.packed;
  }
  ConvProblem part = problem, inner_part = plan.problem;
  part.N = inner_part.N = scratch.images;
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
      turn(part, false, plan.problem.x_layout, inner.x, memory + scratch.x);
      inner.x = memory + scratch.x;
    }
    if (turn_y && !out_is_y) {
      turn(part, true, plan.problem.y_layout, inner.dy, memory + scratch.y);
      inner.dy = memory + scratch.y;
    }
    if (turn_out) {
      inner.out = memory + (out_is_x ? scratch.x : scratch.y);
      if (args.epilogue.residual) {
        const Layout layout = out_is_x ? plan.problem.x_layout : plan.problem.y_layout;
        turn(part, out_is_y, layout, inner.epilogue.residual, memory + scratch.residual);
        inner.epilogue.residual = memory + scratch.residual;
      }
    }
    kernel.run(inner_part, inner);
    if (turn_out) turn(part, out_is_y, out_is_x ? problem.x_layout : problem.y_layout, inner.out, out);
    if (part.N == 0) break;
  }
}

}  // namespace fastconv
