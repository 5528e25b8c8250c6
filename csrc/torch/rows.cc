#include "torch/rows.h"

#include <vector>

#include "torch/external.h"

namespace fastconv::binding {
namespace {

/// This library's own.
const std::vector<const RowBase*>& own_rows() {
  static const std::vector<const RowBase*> all = [] {
    std::vector<const RowBase*> rows;
    for_each_family([&](auto family) {
      using F = decltype(family);
      for (const Row<F>& row : F::cpu_rows()) rows.push_back(&row);
      if constexpr (kHasCuda)
        for (const Row<F>& row : F::cuda_rows()) rows.push_back(&row);
    });
    return rows;
  }();
  return all;
}

}  // namespace

const RowBase* row_at(int index) {
  const int own = static_cast<int>(own_rows().size());
  if (index < 0) return nullptr;
  return index < own ? own_rows()[index] : external_at(index - own);
}

int index_of(const RowBase* row) {
  for (int i = 0; row; ++i)
    if (row_at(i) == row) return i;
  return -1;
}

const RowBase* find_row(const std::string& name) {
  const RowBase* row = row_at(0);
  for (int i = 0; row && name != row->name;) row = row_at(++i);
  return row;
}

}  // namespace fastconv::binding
