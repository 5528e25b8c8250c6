// A table's rows and their runs on NumPy arrays, as every module of fastconv's exposes them.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <mutex>
#include <optional>
#include <string>

#include "conv/choice.h"

namespace fastconv {

using Reason = std::optional<std::string>;
inline Reason reason(const char* text) { return text ? Reason(text) : std::nullopt; }

Precision precision_of(const std::string& text);
Direction direction_of(const std::string& text);

/// Throws std::invalid_argument where the table has no such row.
const ConvRow& row_named(const ConvTable& table, const std::string& name);
/// The row of that name if it takes the problem, or for "auto" the one that would be chosen.
ConvPlan plan_named(const ConvTable& table, const std::string& kernel, const ConvProblem& problem, Direction direction);

/// One call runs at a time: a module has one thread pool, or one CUDA on the CPU.
extern std::mutex one_call;

/// The class ConvRow, and `conv_rows()`. Rows without a kernel are those that were not built.
void bind_rows(pybind11::module_& m, std::span<const ConvRow> rows, const char* (*why_not_target)(Target));

/// `why_not`, `why_not_auto` and `choose`. The table is made by `table` from what the caller says of the device, by the
/// arguments that `device` describes.
template <class... Device, class... Arguments>
void bind_choice(pybind11::module_& m, ConvTable (*table)(Device...), Arguments... device) {
  using pybind11::arg;
  m.def(
      "why_not",
      [table](const std::string& kernel, const std::string& problem, Device... at) {
        const ConvTable rows = table(at...);
        return reason(why_not(rows, row_named(rows, kernel), decode(problem)));
      },
      arg("kernel"), arg("problem"), device...);
  m.def(
      "why_not_auto",
      [table](const std::string& kernel, const std::string& problem, const std::string& precision, Device... at) {
        const ConvTable rows = table(at...);
        return reason(why_not_auto(rows, row_named(rows, kernel), decode(problem), precision_of(precision)));
      },
      arg("kernel"), arg("problem"), arg("precision") = "high", device...);
  m.def(
      "choose",
      [table](const std::string& direction, const std::string& problem, const std::string& precision, bool must_win,
              Device... at) {
        const ConvPlan plan =
            choose(table(at...), direction_of(direction), decode(problem), precision_of(precision), must_win);
        return reason(plan.row ? plan.row->name : nullptr);
      },
      arg("direction"), arg("problem"), arg("precision") = "high", arg("must_win") = false, device...);
}

/// `seen_by`, `packed_bytes`, `workspace_bytes`, and the three directions by `run`, which may throw.
void bind_runs(pybind11::module_& m, const ConvTable& table,
               void (*run)(const ConvPlan&, const ConvProblem&, const ConvArgs&));

}  // namespace fastconv
