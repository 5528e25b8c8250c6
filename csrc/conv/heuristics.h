// Where `auto` passes over a row that could run: what the measurements in benchmarks/results/ say, with the cause.
// Pure functions of the problem; a measured plan overrides them.
#pragma once

#include "conv/conv.h"

namespace fastconv {

/// Null where the row is expected to beat torch's own kernel and every row below it; else the cause.
inline const char* expected_loss(const ConvRow& row, const ConvProblem& problem) {
  const bool strided_dgrad = row.direction == Direction::kDgrad && !problem.has_unit_stride();
  if (row.kernel->algorithm == Algorithm::kDirect && strided_dgrad && problem.groups > 1 && problem.C_per_group() < 16)
    return "groups of few input channels leave most lanes of each vector empty";
  if (row.kernel->algorithm == Algorithm::kDirect && row.direction == Direction::kWgrad && problem.K_per_group() <= 8)
    return "few output channels leave half the lanes of each vector empty";
  switch (row.kernel->algorithm) {
    case Algorithm::kIm2col: return "the matrix is written and read again, which the direct kernels avoid";
    case Algorithm::kRef: return "the reference is written to be read, not to be fast";
    default: return nullptr;
  }
}

}  // namespace fastconv
