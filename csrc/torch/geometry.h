// The arguments of a convolution that do not change from call to call, interned: the eager fast path of Python passes
// their number instead of four lists, which cost more than a small convolution.
#pragma once

#include "torch/problem.h"

namespace fastconv::binding {

/// Throws for a number that was never given out.
const Geometry& geometry_of(int64_t id);

}  // namespace fastconv::binding
