// A family's table and its rows' runs on NumPy arrays, as a submodule of every module of fastconv's.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>

#include "core/run.h"
#include "python/arrays.h"

namespace fastconv {

namespace py = pybind11;

using Reason = std::optional<std::string>;
inline Reason reason(const char* text) { return text ? Reason(text) : std::nullopt; }

/// One call runs at a time: a module has one thread pool, or one CUDA on the CPU.
extern std::mutex one_call;

/// Of a row that was not built, what its name says.
std::string algorithm_in(const std::string& name);

/// What a module is told of the device, by keyword arguments: nothing of a CPU.
template <class F, class... Facts>
using TableOf = Table<F> (*)(Facts...);

template <class F>
const Row<F>& row_named(const Table<F>& table, const std::string& name) {
  if (const Row<F>* row = find_row(table, name)) return *row;
  throw std::invalid_argument("kernel is '" + name + "', which this build does not have");
}

/// The row of that name if it takes the problem, or for "auto" the one that would be chosen.
template <class F>
Plan<F> plan_named(const Table<F>& table, const std::string& kernel, const typename F::Problem& problem,
                   std::optional<Direction> direction) {
  if (kernel == "auto") {
    if (!direction) throw std::invalid_argument("direction is None; kernel 'auto' needs one");
    return choose(table, *direction, problem, Precision::kHigh, false);
  }
  const Row<F>& row = row_named(table, kernel);
  if (direction && row.direction != *direction)
    throw std::invalid_argument("kernel " + kernel + " computes " + name_of(row.direction) + ", not " +
                                name_of(*direction));
  if (const char* text = why_not_row(table, row, problem))
    throw std::invalid_argument("kernel " + kernel + " does not take " + encode(problem) + ": " + text);
  return plan_for(table, row, problem);
}

/// The class of a family's rows, once a module. `why_not_target` is null where the device runs every row.
template <class F>
void bind_row(py::module_& m, const char* (*why_not_target)(const Target&)) {
  py::class_<Row<F>>(m, "Row", py::module_local(), "One kernel of the table.")
      .def_property_readonly("name", [](const Row<F>& row) { return row.name; })
      .def_property_readonly("target", [](const Row<F>& row) { return row.target.name; })
      .def_property_readonly("direction", [](const Row<F>& row) { return name_of(row.direction); })
      .def_property_readonly("numerics", [](const Row<F>& row) { return name_of(row.numerics); })
      .def_property_readonly("algorithm",
                             [](const Row<F>& row) {
                               return row.kernel ? std::string(name_of(row.kernel->algorithm)) : algorithm_in(row.name);
                             })
      .def_property_readonly("packs", [](const Row<F>& row) { return row.kernel && row.kernel->pack; })
      .def_property_readonly(
          "machine_reason",
          [why_not_target](const Row<F>& row) { return reason(why_not_target ? why_not_target(row.target) : nullptr); })
      .def("__repr__", [](const Row<F>& row) { return "<kernel " + std::string(row.name) + ">"; });
}

template <class F>
void bind_rows(py::module_& m, std::span<const Row<F>> rows) {
  m.def("rows", [rows] {
    py::list list;
    for (const Row<F>& row : rows) list.append(py::cast(&row, py::return_value_policy::reference));
    return list;
  });
}

/// What a family says of itself, whatever the device.
template <class F>
void bind_facts(py::module_& m) {
  m.def("directions", [] {
    std::vector<std::string> names;
    for (Direction direction : F::kDirections) names.push_back(name_of(direction));
    return names;
  });
  m.def(
      "operands",
      [](const std::string& direction) {
        py::list list;
        for (const Operand<F>& each : F::operands(value_of<Direction>("direction", direction)))
          list.append(py::make_tuple(each.name, name_of(each.kind), each.written, each.optional));
        return list;
      },
      py::arg("direction"), "(name, kind, written, optional) of each operand.");
  m.def("canonical", [](const std::string& text) { return encode(F::decode(text)); }, py::arg("problem"));
  m.def("squeezed", [](const std::string& text) { return encode(F::squeezed(F::decode(text))); }, py::arg("problem"));
}

/// `why_not`, `why_not_auto` and `choose`; `facts` describes the arguments by which the device is told.
template <class F, class... Facts, class... Arguments>
void bind_choice(py::module_& m, TableOf<F, Facts...> table, Arguments... facts) {
  using py::arg;
  m.def(
      "why_not",
      [table](const std::string& kernel, const std::string& problem, Facts... at) {
        const Table<F> rows = table(at...);
        return reason(why_not_row(rows, row_named(rows, kernel), F::decode(problem)));
      },
      arg("kernel"), arg("problem"), facts...);
  m.def(
      "why_not_auto",
      [table](const std::string& kernel, const std::string& problem, const std::string& precision, Facts... at) {
        const Table<F> rows = table(at...);
        return reason(why_not_auto(rows, row_named(rows, kernel), F::decode(problem),
                                   value_of<Precision>("precision", precision)));
      },
      arg("kernel"), arg("problem"), arg("precision") = "high", facts...);
  m.def(
      "why_not_target",
      [table](const std::string& kernel, Facts... at) {
        const Table<F> rows = table(at...);
        return reason(rows.why_not_target(row_named(rows, kernel).target, rows.capability));
      },
      arg("kernel"), facts...);
  m.def(
      "choose",
      [table](const std::string& direction, const std::string& problem, const std::string& precision, bool must_win,
              Facts... at) {
        const Plan<F> plan = choose(table(at...), value_of<Direction>("direction", direction), F::decode(problem),
                                    value_of<Precision>("precision", precision), must_win);
        return reason(plan.row ? plan.row->name : nullptr);
      },
      arg("direction"), arg("problem"), arg("precision") = "high", arg("must_win") = false, facts...);
}

/// The arrays of a call as its arguments. `out` is made where it was not given.
template <class F>
class ArrayOperands {
 public:
  ArrayOperands(const typename F::Problem& p, Direction direction, const py::dict& arrays)
      : problem_(p), text_(encode(p)), has_depth_(F::has_depth(p)) {
    size_t used = 0;
    for (const Operand<F>& operand : F::operands(direction)) {
      py::object given = py::none();
      if (arrays.contains(operand.name)) given = arrays[operand.name], ++used;
      const Presence presence = F::presence(operand, p);
      if (given.is_none() && presence != Presence::kAlways) continue;
      if (presence == Presence::kNever)
        throw std::invalid_argument(std::string(operand.name) + " is no operand of problem " + text_);
      if (given.is_none() && operand.written) given = fresh(operand);
      if (!py::isinstance<py::array>(given))
        throw std::invalid_argument(std::string(operand.name) + " is a " +
                                    std::string(py::str(py::type::of(given).attr("__name__"))) +
                                    "; it must be a NumPy array");
      const py::array array = py::reinterpret_borrow<py::array>(given);
      place(operand, array);
      if (operand.written && presence == Presence::kAlways) out_ = array;
    }
    if (used == arrays.size()) return;
    for (const auto& [name, array] : arrays)
      if (!is_operand(direction, py::str(name)))
        throw std::invalid_argument(std::string(py::str(name)) + " is no operand of " + name_of(direction));
  }
  typename F::Args args;
  const py::array& out() const { return out_; }

 private:
  static bool is_operand(Direction direction, const std::string& name) {
    for (const Operand<F>& operand : F::operands(direction))
      if (name == operand.name) return true;
    return false;
  }
  py::array fresh(const Operand<F>& operand) const {
    const py::dtype dtype = numpy_dtype(problem_.dtype);
    if (operand.kind == OperandKind::kWeight) return new_weight(dtype, F::weight_extents(problem_), has_depth_);
    return new_activation(dtype, F::extents(problem_, operand.side), has_depth_);
  }
  void place(const Operand<F>& operand, const py::array& array) {
    ArrayWanted wanted{operand.name, numpy_dtype(problem_.dtype), text_, operand.written};
    switch (operand.kind) {
      case OperandKind::kIndex: wanted.dtype = numpy_dtype(F::index_type(problem_)); [[fallthrough]];
      case OperandKind::kActivation:
        *operand.at(args) = activation_data(wanted, array, F::extents(problem_, operand.side), has_depth_);
        break;
      case OperandKind::kWeight: {
        WeightAxes strides;
        void* data = weight_data(wanted, array, F::weight_extents(problem_), has_depth_, &strides);
        F::set_weight(args, data, strides, problem_);
        break;
      }
      case OperandKind::kChannels:
        if (problem_.dtype != DType::kFloat64) wanted.dtype = numpy_dtype(DType::kFloat32);
        *operand.at(args) = channel_data(wanted, array, F::extents(problem_, operand.side).channels);
        break;
    }
  }

  typename F::Problem problem_;
  std::string text_;
  bool has_depth_;
  py::array out_;
};

/// Where the kernels of a family note an index that is out of range, if they do.
template <class F>
struct StrayOf {
  static constexpr bool kTells = false;
  struct Type {};
};
template <class F>
  requires requires(typename F::Args args) { args.stray->found; }
struct StrayOf<F> {
  static constexpr bool kTells = true;
  using Type = std::remove_pointer_t<decltype(F::Args::stray)>;
};

template <class F>
using RunPlan = void (*)(const Plan<F>&, const typename F::Problem&, const typename F::Args&);

template <class F>
size_t packed_bytes_of(const Plan<F>& plan) {
  const Kernel<F>& kernel = *plan.row->kernel;
  return kernel.packed_bytes ? kernel.packed_bytes(plan.problem) : 0;
}

template <class F>
py::array pack_array(const Table<F>& table, const std::string& kernel, const std::string& text, const py::array& w) {
  const auto p = F::decode(text);
  const Plan<F> plan = plan_named<F>(table, kernel, p, std::nullopt);
  const size_t bytes = packed_bytes_of(plan);
  if (!bytes) throw std::invalid_argument("kernel " + kernel + " takes weights as they lie: it packs nothing");
  WeightAxes strides;
  const std::string written = encode(p);
  const ArrayWanted wanted{"w", numpy_dtype(p.dtype), written, false};
  typename F::Args args;
  F::set_weight(args, weight_data(wanted, w, F::weight_extents(p), F::has_depth(p), &strides), strides, p);
  void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!data) throw std::bad_alloc();
  const py::capsule owner(data, [](void* memory) { std::free(memory); });
  {
    py::gil_scoped_release release;
    std::lock_guard lock(one_call);
    plan.row->kernel->pack(plan.problem, F::weight(F::squeezed(args, p)), data);
  }
  return py::array(py::dtype("uint8"), {bytes}, {size_t{1}}, data, owner);
}

/// `seen_by`, `packed_bytes`, `workspace_bytes`, `pack` and `run`, which may throw.
template <class F>
void bind_runs(py::module_& m, Table<F> (*table)(), RunPlan<F> run_plan) {
  using py::arg;
  const auto plan_of = [table](const std::string& kernel, const std::string& text) {
    return plan_named<F>(table(), kernel, F::decode(text), std::nullopt);
  };
  m.def(
      "seen_by",
      [plan_of](const std::string& kernel, const std::string& text) { return encode(plan_of(kernel, text).problem); },
      arg("kernel"), arg("problem"));
  m.def(
      "packed_bytes",
      [plan_of](const std::string& kernel, const std::string& text) { return packed_bytes_of(plan_of(kernel, text)); },
      arg("kernel"), arg("problem"));
  m.def(
      "workspace_bytes",
      [plan_of](const std::string& kernel, const std::string& text) {
        const Plan<F> plan = plan_of(kernel, text);
        const Kernel<F>& own = *plan.row->kernel;
        return own.workspace ? own.workspace(plan.problem) : size_t{0};
      },
      arg("kernel"), arg("problem"));
  m.def(
      "pack",
      [table](const std::string& kernel, const std::string& text, const py::array& w) {
        return pack_array<F>(table(), kernel, text, w);
      },
      arg("kernel"), arg("problem"), arg("w"));
  m.def(
      "run",
      [table, run_plan](const std::string& kernel, const std::string& text, const std::optional<std::string>& direction,
                        const std::string& activation, const std::optional<py::array>& packed,
                        const py::kwargs& arrays) {
        const auto p = F::decode(text);
        std::optional<Direction> way;
        if (direction) way = value_of<Direction>("direction", *direction);
        const Plan<F> plan = plan_named<F>(table(), kernel, p, way);
        ArrayOperands<F> operands(p, plan.row->direction, arrays);
        operands.args.epilogue.activation = value_of<Activation>("activation", activation);
        if (packed) {
          const size_t bytes = packed_bytes_of(plan);
          if (static_cast<size_t>(packed->nbytes()) != bytes || !bytes)
            throw std::invalid_argument("packed has " + std::to_string(packed->nbytes()) + " bytes; " + plan.row->name +
                                        " packs this weight into " + std::to_string(bytes));
          operands.args.packed = packed->data();
        }
        [[maybe_unused]] typename StrayOf<F>::Type stray;
        if constexpr (StrayOf<F>::kTells) operands.args.stray = &stray;
        {
          py::gil_scoped_release release;
          std::lock_guard lock(one_call);
          run_plan(plan, p, operands.args);
        }
        if constexpr (StrayOf<F>::kTells)
          if (stray.found)
            throw std::invalid_argument("index has " + std::to_string(stray.value) + ", which is no place of problem " +
                                        encode(p));
        return operands.out();
      },
      arg("kernel"), arg("problem"), py::kw_only(), arg("direction") = py::none(), arg("activation") = "none",
      arg("packed") = py::none(),
      "Runs a kernel, or 'auto' with a direction, on the operands given by name; returns what it writes.");
}

}  // namespace fastconv
