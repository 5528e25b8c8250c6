// Where `auto` passes over a row of unpooling that could run. Pure functions of the problem.
#pragma once

#include "unpool/unpool.h"

namespace fastconv {

/// Null where the row is expected to beat torch's own kernel and every row below it; else the cause.
inline const char* unpool_expected_loss(const UnpoolRow& row, const UnpoolProblem&, bool) {
  if (row.kernel->algorithm == Algorithm::kRef) return "the reference is written to be read, not to be fast";
  return nullptr;
}

}  // namespace fastconv
