#include "python/rows.h"

#include <pthread.h>

#include "python/arrays.h"

namespace py = pybind11;

namespace fastconv {

std::mutex one_call;

namespace {

/// A fork waits for the call of another thread, whose lock nobody would open in the child.
const int waits_at_fork = pthread_atfork([] { one_call.lock(); }, [] { one_call.unlock(); }, [] { one_call.unlock(); });

using Run = void (*)(const ConvPlan&, const ConvProblem&, const ConvArgs&);

template <class Enum>
Enum one_of(const char* argument, const std::string& text, std::initializer_list<std::pair<const char*, Enum>> all) {
  std::string names;
  for (const auto& [name, value] : all) {
    if (text == name) return value;
    names += (names.empty() ? "'" : ", '") + std::string(name) + "'";
  }
  throw std::invalid_argument(std::string(argument) + " is '" + text + "'; it must be one of " + names);
}

Activation activation_of(const std::string& text) {
  return one_of<Activation>("activation", text,
                            {{"none", Activation::kNone},
                             {"relu", Activation::kRelu},
                             {"relu6", Activation::kRelu6},
                             {"hardswish", Activation::kHardSwish},
                             {"silu", Activation::kSilu},
                             {"sigmoid", Activation::kSigmoid}});
}

size_t packed_bytes_of(const ConvPlan& plan) {
  const ConvKernel& kernel = *plan.row->kernel;
  return kernel.packed_bytes ? kernel.packed_bytes(plan.problem) : 0;
}

void run_alone(Run run, const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  py::gil_scoped_release release;
  std::lock_guard lock(one_call);
  run(plan, problem, args);
}

/// What a call may bring beside its operands.
struct Options {
  py::object scale, shift;
  std::optional<py::array> residual;
  std::string activation;
  std::optional<py::array> packed;
};

/// fprop (operand x gives y) or dgrad (dy gives dx).
py::array forward(const ConvTable& table, Run run, Direction direction, const std::string& kernel,
                  const std::string& text, const py::array& input, const py::array& weight,
                  const std::optional<py::array>& out, const Options& options) {
  const ConvProblem p = decode(text);
  const ConvPlan plan = plan_named(table, kernel, p, direction);
  const bool fprop = direction == Direction::kFprop;
  const Operand from = fprop ? Operand::kX : Operand::kY, to = fprop ? Operand::kY : Operand::kX;
  const int64_t channels = fprop ? p.K : p.C;
  py::array result = out ? *out : new_activation(p, to);
  ConvArgs args;
  (fprop ? args.x : args.dy) = activation_data(fprop ? "x" : "dy", input, p, from, false);
  args.w = filter_of("w", weight, p, false);
  args.out = activation_data("out", result, p, to, true);
  args.epilogue.scale = channel_data("scale", options.scale, p, channels);
  args.epilogue.shift = channel_data("shift", options.shift, p, channels);
  if (options.residual) args.epilogue.residual = activation_data("residual", *options.residual, p, to, false);
  args.epilogue.activation = activation_of(options.activation);
  if (const auto& packed = options.packed) {
    const size_t bytes = packed_bytes_of(plan);
    if (static_cast<size_t>(packed->nbytes()) != bytes || !bytes)
      throw std::invalid_argument("packed has " + std::to_string(packed->nbytes()) + " bytes; " + plan.row->name +
                                  " packs this weight into " + std::to_string(bytes));
    args.packed = packed->data();
  }
  run_alone(run, plan, p, args);
  return result;
}

py::array wgrad(const ConvTable& table, Run run, const std::string& kernel, const std::string& text, const py::array& x,
                const py::array& dy, const std::optional<py::array>& out) {
  const ConvProblem p = decode(text);
  const ConvPlan plan = plan_named(table, kernel, p, Direction::kWgrad);
  py::array result = out ? *out : new_weight(p);
  ConvArgs args;
  args.x = activation_data("x", x, p, Operand::kX, false);
  args.dy = activation_data("dy", dy, p, Operand::kY, false);
  args.w = filter_of("out", result, p, true);
  run_alone(run, plan, p, args);
  return result;
}

/// Of a row that was not built, what its name says.
std::string algorithm_of(const ConvRow& row) {
  if (row.kernel) return name_of(row.kernel->algorithm);
  for (int i = 0; i <= static_cast<int>(Algorithm::kStem); ++i) {
    const std::string name = name_of(static_cast<Algorithm>(i));
    if (std::string(row.name).find("_" + name + "_") != std::string::npos) return name;
  }
  return "";
}

}  // namespace

Precision precision_of(const std::string& text) {
  return one_of<Precision>("precision", text,
                           {{"exact", Precision::kExact}, {"high", Precision::kHigh}, {"fast", Precision::kFast}});
}

Direction direction_of(const std::string& text) {
  return one_of<Direction>("direction", text,
                           {{"fprop", Direction::kFprop}, {"dgrad", Direction::kDgrad}, {"wgrad", Direction::kWgrad}});
}

const ConvRow& row_named(const ConvTable& table, const std::string& name) {
  if (const ConvRow* row = find_conv_row(table, name)) return *row;
  throw std::invalid_argument("kernel is '" + name + "', which this build does not have");
}

ConvPlan plan_named(const ConvTable& table, const std::string& kernel, const ConvProblem& problem,
                    Direction direction) {
  if (kernel == "auto") return choose(table, direction, problem, Precision::kHigh, false);
  const ConvRow& row = row_named(table, kernel);
  if (row.direction != direction)
    throw std::invalid_argument("kernel " + kernel + " computes " + name_of(row.direction) + ", not " +
                                name_of(direction));
  if (const char* text = why_not(table, row, problem))
    throw std::invalid_argument("kernel " + kernel + " does not take " + encode(problem) + ": " + text);
  return plan_for(table, row, problem);
}

void bind_rows(py::module_& m, std::span<const ConvRow> rows, const char* (*why_not_target)(Target)) {
  py::class_<ConvRow>(m, "ConvRow", py::module_local(), "One kernel of the table.")
      .def_property_readonly("name", [](const ConvRow& row) { return row.name; })
      .def_property_readonly("target", [](const ConvRow& row) { return name_of(row.target); })
      .def_property_readonly("direction", [](const ConvRow& row) { return name_of(row.direction); })
      .def_property_readonly("numerics", [](const ConvRow& row) { return name_of(row.numerics); })
      .def_property_readonly("algorithm", &algorithm_of)
      .def_property_readonly("packs", [](const ConvRow& row) { return row.kernel && row.kernel->pack; })
      .def_property_readonly("machine_reason",
                             [why_not_target](const ConvRow& row) { return reason(why_not_target(row.target)); })
      .def("__repr__", [](const ConvRow& row) { return "<kernel " + std::string(row.name) + ">"; });
  m.def("conv_rows", [rows] {
    py::list list;
    for (const ConvRow& row : rows) list.append(py::cast(&row, py::return_value_policy::reference));
    return list;
  });
}

void bind_runs(py::module_& m, const ConvTable& table, Run run) {
  const auto plan_of = [table](const std::string& kernel, const std::string& text) {
    return plan_named(table, kernel, decode(text), row_named(table, kernel).direction);
  };
  m.def(
      "seen_by",
      [plan_of](const std::string& kernel, const std::string& text) { return encode(plan_of(kernel, text).problem); },
      py::arg("kernel"), py::arg("problem"));
  m.def(
      "packed_bytes",
      [plan_of](const std::string& kernel, const std::string& text) { return packed_bytes_of(plan_of(kernel, text)); },
      py::arg("kernel"), py::arg("problem"));
  m.def(
      "workspace_bytes",
      [plan_of](const std::string& kernel, const std::string& text) {
        const ConvPlan plan = plan_of(kernel, text);
        const ConvKernel& own = *plan.row->kernel;
        return own.workspace ? own.workspace(plan.problem) : size_t{0};
      },
      py::arg("kernel"), py::arg("problem"));
  const auto add_forward = [&](const char* name, const char* input, Direction direction) {
    const auto none = py::none();
    m.def(
        name,
        [table, run, direction](const std::string& kernel, const std::string& p, const py::array& in,
                                const py::array& w, const std::optional<py::array>& out, const py::object& scale,
                                const py::object& shift, const std::optional<py::array>& residual,
                                const std::string& activation, const std::optional<py::array>& packed) {
          return forward(table, run, direction, kernel, p, in, w, out, {scale, shift, residual, activation, packed});
        },
        py::arg("kernel"), py::arg("problem"), py::arg(input), py::arg("w"), py::arg("out") = none, py::kw_only(),
        py::arg("scale") = none, py::arg("shift") = none, py::arg("residual") = none, py::arg("activation") = "none",
        py::arg("packed") = none);
  };
  add_forward("fprop", "x", Direction::kFprop);
  add_forward("dgrad", "dy", Direction::kDgrad);
  m.def(
      "wgrad",
      [table, run](const std::string& kernel, const std::string& p, const py::array& x, const py::array& dy,
                   const std::optional<py::array>& out) { return wgrad(table, run, kernel, p, x, dy, out); },
      py::arg("kernel"), py::arg("problem"), py::arg("x"), py::arg("dy"), py::arg("out") = py::none());
}

}  // namespace fastconv
