#include "torch/rows.h"

#include "conv/cuda/conv.h"
#include "torch/guest.h"

namespace fastconv::binding {
namespace {

std::span<const ConvRow> gpu_rows() {
  if constexpr (kHasCuda) return cuda_conv_rows();
  return {};
}

}  // namespace

const ConvRow* row_at(int index) {
  const int here = static_cast<int>(conv_rows().size()), there = static_cast<int>(gpu_rows().size());
  if (index < 0) return nullptr;
  if (index >= here + there) return guest_at(index - here - there);
  return index < here ? &conv_rows()[index] : &gpu_rows()[index - here];
}

int index_of(const ConvRow* row) {
  for (int i = 0; row; ++i)
    if (row_at(i) == row) return i;
  return -1;
}

const ConvRow* find_row(const std::string& name) {
  const ConvRow* row = row_at(0);
  for (int i = 0; row && name != row->name;) row = row_at(++i);
  return row;
}

ConvTable table_for(const Device& device, bool allow_tf32) {
  if constexpr (kHasCuda)
    if (device.cuda) return cuda_conv_table(capability_of(device.index), allow_tf32);
  return conv_table();
}

}  // namespace fastconv::binding
