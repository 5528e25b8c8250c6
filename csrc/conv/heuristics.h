// Where `auto` passes over a row that could run: what the measurements in benchmarks/results/ say, with the cause.
// Pure functions of the problem; a measured plan overrides them.
#pragma once

#include "conv/conv.h"

namespace fastconv {

/// Null where the row is expected to beat torch's own kernel and every row below it; else the cause.
inline const char* expected_loss(const ConvRow& row, const ConvProblem&) {
  switch (row.kernel->algorithm) {
    case Algorithm::kRef: return "the reference is written to be read, not to be fast";
    default: return nullptr;
  }
}

}  // namespace fastconv
