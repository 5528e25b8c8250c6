// The dgrad of unit stride is a fprop: dy convolved with the flipped filter, C and K exchanged.
#pragma once

#include "conv/conv.h"

namespace fastconv {
namespace {

template <const ConvKernel* kFprop>
struct Adjoint {
  static const char* why_not(const ConvProblem& p) {
    if (!p.has_unit_stride()) return "takes unit stride only";
    return kFprop->why_not(adjoint(p));
  }
  static void run(const ConvProblem& p, const ConvArgs& args) {
    ConvArgs turned = args;
    turned.x = args.dy;
    turned.w = adjoint(args.w, p);
    kFprop->run(adjoint(p), turned);
  }
  static size_t workspace(const ConvProblem& p) { return kFprop->workspace(adjoint(p)); }
  static size_t packed_bytes(const ConvProblem& p) { return kFprop->packed_bytes(adjoint(p)); }
  static void pack(const ConvProblem& p, const Filter& w, void* packed) {
    kFprop->pack(adjoint(p), adjoint(w, p), packed);
  }
};

/// The record of the dgrad that runs the fprop `kFprop` on the adjoint problem.
template <const ConvKernel* kFprop>
constexpr ConvKernel kAdjoint = {.algorithm = kFprop->algorithm,
                                 .why_not = Adjoint<kFprop>::why_not,
                                 .run = Adjoint<kFprop>::run,
                                 .workspace = Adjoint<kFprop>::workspace,
                                 .packed_bytes = Adjoint<kFprop>::packed_bytes,
                                 .pack = Adjoint<kFprop>::pack};

}  // namespace
}  // namespace fastconv
