// Where `auto` passes over a pooling row that could run. Pure functions of the problem.
#pragma once

#include "pool/pool.h"

namespace fastconv {

/// Null where the row is expected to beat torch's own kernel and every row below it; else the cause.
inline const char* pool_expected_loss(const PoolRow& row, const PoolProblem& p, bool copied) {
  if (row.kernel->algorithm == Algorithm::kRef) return "the reference is written to be read, not to be fast";
  if (copied) return "to transpose an image takes longer than to pool it";
  const bool gathers = row.direction == Direction::kDgrad && p.mode == PoolMode::kMax && p.x_layout == Layout::kNchw;
  if (gathers && row.kernel->algorithm == Algorithm::kDirect)
    return "asks every window of each input, where torch's kernel adds each output to the one input that it was";
  return nullptr;
}

}  // namespace fastconv
