// Pooling by a row that Python runs (torch/external.h).
#pragma once

#include "core/table.h"
#include "pool/pool.h"
#include "torch/tensor.h"

namespace fastconv::binding {

/// Writes `out`: from x, and the indices where they are asked for, or where the row computes dgrad from dy and the
/// indices; null where there are none.
void run_external_pool(const Plan<Pool>& plan, const Tensor& source, const Tensor* index, const Tensor& out);

}  // namespace fastconv::binding
