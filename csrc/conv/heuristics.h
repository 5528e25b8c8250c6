// Where `auto` passes over a row that could run: what the measurements in benchmarks/results/ say, with the cause.
// Pure functions of the problem; a measured plan overrides them.
#pragma once

#include "conv/conv.h"

namespace fastconv {

/// Null where the row is expected to beat torch's own kernel and every row below it; else the cause.
inline const char* expected_loss(const ConvRow& row, const ConvProblem& p) {
  switch (row.kernel->algorithm) {
    case Algorithm::kRef: return "the reference is written to be read, not to be fast";
    case Algorithm::kGrouped:
      if (row.direction == Direction::kFprop && p.C_per_group() >= 32 && p.stride_w > 1)
        return "at a stride, groups as wide as 32 channels leave too few taps to an input that was loaded";
      return nullptr;
    default: return nullptr;
  }
}

}  // namespace fastconv
