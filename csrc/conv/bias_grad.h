#pragma once

#include "conv/problem.h"

namespace fastconv {

/// dbias[k] = sum of dy over batch and pixels. Accumulates in float, or double for float64, in a fixed order.
void bias_grad(const ConvProblem& problem, const void* dy, void* dbias);

}  // namespace fastconv
