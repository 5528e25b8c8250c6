// Where `auto` passes over a pooling row that could run. Pure functions of the problem.
#pragma once

#include "pool/pool.h"

namespace fastconv {

/// Null where the row is expected to beat torch's own kernel and every row below it; else the cause.
inline const char* pool_expected_loss(const PoolRow& row, const PoolProblem&) {
  if (row.kernel->algorithm == Algorithm::kRef) return "the reference is written to be read, not to be fast";
  if (row.kernel->algorithm == Algorithm::kScatter) return "adds one output after another, as torch's kernel does";
  return nullptr;
}

}  // namespace fastconv
