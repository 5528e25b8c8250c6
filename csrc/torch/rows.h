// Every row, by index and by name: each family's of the CPU and, where they were built, of CUDA; then Python's
// (torch/external.h).
#pragma once

#include <string>

#include "families.h"
#include "torch/device.h"

namespace fastconv::binding {

/// Null past the last row.
const RowBase* row_at(int index);
/// -1 for null.
int index_of(const RowBase* row);
/// Null where there is none.
const RowBase* find_row(const std::string& name);

/// The family's rows for a device.
template <class F>
Table<F> table_for(const Device& device, bool allow_tf32) {
  if constexpr (kHasCuda)
    if (device.cuda) return F::cuda_table(capability_of(device.index), allow_tf32);
  return F::cpu_table();
}

}  // namespace fastconv::binding
