// Where `auto` passes over a CUDA pooling row that could run. Pure functions of the problem.
#pragma once

#include "pool/pool.h"

namespace fastconv {

/// Null where the row is expected to beat torch's own kernel and every row below it; else the cause. A row gets its
/// null from a result in benchmarks/results/, and there is none of a GPU yet.
inline const char* pool_expected_loss_cuda(const PoolRow& row, const PoolProblem&, bool) {
  if (row.kernel->algorithm == Algorithm::kRef) return "the reference is written to be read, not to be fast";
  return "not measured on a GPU yet: torch's kernel runs";
}

}  // namespace fastconv
