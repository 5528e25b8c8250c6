// The dgrad of unit stride is a fprop: dy convolved with the flipped filter, C and K exchanged. The fprop's own record
// runs it, so that no kernel is compiled twice; what it says is about the adjoint problem.
#pragma once

#include "conv/cuda/table.h"

namespace fastconv {
namespace {

template <const ConvKernel* kFprop>
struct Adjoint {
  static const char* why_not(const ConvProblem& p) {
    if (!p.has_unit_stride()) return "takes unit stride only";
    return kFprop->why_not(adjoint(p));
  }
  static size_t workspace(const ConvProblem& p) { return kFprop->workspace(adjoint(p)); }
  static void run(const ConvProblem& p, const ConvArgs& args) {
    ConvArgs turned = args;
    turned.x = args.dy, turned.w = adjoint(args.w, p);
    kFprop->run(adjoint(p), turned);
  }
};

/// The record of the dgrad that runs the fprop `kFprop`, which takes scratch memory, on the adjoint problem.
template <Algorithm kAlgorithm, const ConvKernel* kFprop>
constexpr ConvKernel kAdjoint = {.algorithm = kAlgorithm,
                                 .why_not = Adjoint<kFprop>::why_not,
                                 .run = Adjoint<kFprop>::run,
                                 .workspace = Adjoint<kFprop>::workspace};

}  // namespace
}  // namespace fastconv
