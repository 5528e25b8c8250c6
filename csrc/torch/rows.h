// Every row, by index and by name: the CPU's, the CUDA rows where they were built, then Python's (torch/guest.h).
#pragma once

#include <string>

#include "conv/conv.h"
#include "torch/device.h"

namespace fastconv::binding {

/// Null past the last row.
const ConvRow* row_at(int index);
/// -1 for null.
int index_of(const ConvRow* row);
/// Null where there is none.
const ConvRow* find_row(const std::string& name);

/// The rows for a device.
ConvTable table_for(const Device& device, bool allow_tf32);

}  // namespace fastconv::binding
