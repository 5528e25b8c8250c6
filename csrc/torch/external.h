// Rows of kernels that are not in this library: Triton's, which Python registers (fastconv/python_rows.py) and runs by
// the ops fastconv::_external_conv, _external_conv_wgrad and _external_pool. They are named, chosen and noted like the
// library's own.
#pragma once

#include <string>

#include "core/row.h"
#include "torch/device.h"
#include "torch/state.h"

namespace fastconv::binding {

/// Null past the last external row.
const RowBase* external_at(int index);

template <class F>
bool is_external(const Row<F>& row) {
  return !row.kernel;
}
bool is_external(const RowBase& row);

/// Why an external row does not take the problem on the device; empty where it does.
std::string why_not_external(const RowBase& row, const std::string& problem, const Device& device);

/// Python's word on what to run on a GPU (fastconv/plan.py): `own`, this library's choice, or another row; null for
/// torch's kernel. Its answers may change at each new `answers_generation`.
struct Preferred {
  const RowBase* row;
};
Preferred preferred(int slot, const std::string& problem, const Settings& settings, bool must_win, const RowBase* own);

int answers_generation();

}  // namespace fastconv::binding
