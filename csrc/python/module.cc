// fastconv._core: the kernel tables, machine facts, and kernels on NumPy arrays. No torch.
//
// A kernel or a problem is named by its text, so that Python and C++ share no object but arrays. One call runs at a
// time: the module has one thread pool, of one thread until `set_threads`.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>

#include "conv/conv.h"
#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"
#include "core/cpu/peak.h"
#include "core/cpu/thread_pool.h"
#include "python/arrays.h"

namespace py = pybind11;

namespace fastconv {
namespace {

using Reason = std::optional<std::string>;

Reason reason(const char* text) { return text ? Reason(text) : std::nullopt; }

const ConvRow& row_named(const std::string& name) {
  if (const ConvRow* row = find_conv_row(name)) return *row;
  throw std::invalid_argument("kernel is '" + name + "', which this build does not have");
}

template <class Enum>
Enum one_of(const char* argument, const std::string& text, std::initializer_list<std::pair<const char*, Enum>> all) {
  std::string names;
  for (const auto& [name, value] : all) {
    if (text == name) return value;
    names += (names.empty() ? "'" : ", '") + std::string(name) + "'";
  }
  throw std::invalid_argument(std::string(argument) + " is '" + text + "'; it must be one of " + names);
}

Precision precision_of(const std::string& text) {
  return one_of<Precision>("precision", text,
                           {{"exact", Precision::kExact}, {"high", Precision::kHigh}, {"fast", Precision::kFast}});
}

Direction direction_of(const std::string& text) {
  return one_of<Direction>("direction", text,
                           {{"fprop", Direction::kFprop}, {"dgrad", Direction::kDgrad}, {"wgrad", Direction::kWgrad}});
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

/// The row of that name if it takes the problem, or for "auto" the one that would be chosen.
ConvPlan plan_named(const std::string& kernel, const ConvProblem& problem, Direction direction) {
  if (kernel == "auto") return choose(direction, problem, Precision::kHigh, false);
  const ConvRow& row = row_named(kernel);
  if (row.direction != direction)
    throw std::invalid_argument("kernel " + kernel + " computes " + name_of(row.direction) + ", not " +
                                name_of(direction));
  if (const char* text = why_not(row, problem))
    throw std::invalid_argument("kernel " + kernel + " does not take " + encode(problem) + ": " + text);
  return plan_for(row, problem);
}

std::mutex one_call;

void run_checked(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  bool done;
  {
    py::gil_scoped_release release;
    std::lock_guard lock(one_call);
    done = run(plan, problem, args);
  }
  if (!done) throw std::bad_alloc();
}

/// fprop (operand x gives y) or dgrad (dy gives dx).
py::array forward(Direction direction, const std::string& kernel, const std::string& text, const py::array& input,
                  const py::array& weight, const std::optional<py::array>& out, const py::object& scale,
                  const py::object& shift, const std::optional<py::array>& residual, const std::string& activation,
                  const std::optional<py::array>& packed) {
  const ConvProblem p = decode(text);
  const ConvPlan plan = plan_named(kernel, p, direction);
  const bool fprop = direction == Direction::kFprop;
  const Operand from = fprop ? Operand::kX : Operand::kY, to = fprop ? Operand::kY : Operand::kX;
  const int64_t channels = fprop ? p.K : p.C;
  py::array result = out ? *out : new_activation(p, to);
  ConvArgs args;
  (fprop ? args.x : args.dy) = activation_data(fprop ? "x" : "dy", input, p, from, false);
  args.w = filter_of("w", weight, p, false);
  args.out = activation_data("out", result, p, to, true);
  args.epilogue.scale = channel_data("scale", scale, p, channels);
  args.epilogue.shift = channel_data("shift", shift, p, channels);
  if (residual) args.epilogue.residual = activation_data("residual", *residual, p, to, false);
  args.epilogue.activation = activation_of(activation);
  if (packed) {
    if (static_cast<size_t>(packed->nbytes()) != packed_bytes(plan) || !packed_bytes(plan))
      throw std::invalid_argument("packed has " + std::to_string(packed->nbytes()) + " bytes; " + plan.row->name +
                                  " packs this weight into " + std::to_string(packed_bytes(plan)));
    args.packed = packed->data();
  }
  run_checked(plan, p, args);
  return result;
}

py::array wgrad(const std::string& kernel, const std::string& text, const py::array& x, const py::array& dy,
                const std::optional<py::array>& out) {
  const ConvProblem p = decode(text);
  const ConvPlan plan = plan_named(kernel, p, Direction::kWgrad);
  py::array result = out ? *out : new_weight(p);
  ConvArgs args;
  args.x = activation_data("x", x, p, Operand::kX, false);
  args.dy = activation_data("dy", dy, p, Operand::kY, false);
  args.w = filter_of("out", result, p, true);
  run_checked(plan, p, args);
  return result;
}

py::array pack_weight(const std::string& kernel, const std::string& text, const py::array& weight) {
  const ConvProblem p = decode(text);
  const ConvPlan plan = plan_named(kernel, p, row_named(kernel).direction);
  const size_t bytes = packed_bytes(plan);
  if (!bytes) throw std::invalid_argument("kernel " + kernel + " takes weights as they lie: it packs nothing");
  const Filter filter = filter_of("w", weight, p, false);
  void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!data) throw std::bad_alloc();
  const py::capsule owner(data, [](void* memory) { std::free(memory); });
  {
    py::gil_scoped_release release;
    std::lock_guard lock(one_call);
    pack(plan, filter, data);
  }
  return py::array(py::dtype("uint8"), {bytes}, {size_t{1}}, data, owner);
}

py::dict machine() {
  py::dict facts;
  facts["isa"] = name_of(best_target());
  facts["cores"] = std::thread::hardware_concurrency();
  facts["l1_bytes"] = l1_bytes();
  facts["l2_bytes"] = l2_bytes();
  return facts;
}

}  // namespace
}  // namespace fastconv

PYBIND11_MODULE(_core, m) {
  using namespace fastconv;  // NOLINT: one function
  const auto none = py::none();
  m.doc() = "Kernel tables, machine facts, and convolution kernels on NumPy arrays; no torch.";

  py::class_<ConvRow>(m, "ConvRow", "One kernel of the table.")
      .def_property_readonly("name", [](const ConvRow& row) { return row.name; })
      .def_property_readonly("target", [](const ConvRow& row) { return name_of(row.target); })
      .def_property_readonly("direction", [](const ConvRow& row) { return name_of(row.direction); })
      .def_property_readonly("numerics", [](const ConvRow& row) { return name_of(row.numerics); })
      .def_property_readonly("algorithm", [](const ConvRow& row) { return name_of(row.kernel->algorithm); })
      .def_property_readonly("packs", [](const ConvRow& row) { return row.kernel->pack != nullptr; })
      .def_property_readonly("machine_reason", [](const ConvRow& row) { return reason(why_not(row.target)); })
      .def("__repr__", [](const ConvRow& row) { return "<kernel " + std::string(row.name) + ">"; });

  m.def("conv_rows", [] {
    py::list rows;
    for (const ConvRow& row : conv_rows()) rows.append(py::cast(&row, py::return_value_policy::reference));
    return rows;
  });
  m.def(
      "why_not",
      [](const std::string& kernel, const std::string& p) { return reason(why_not(row_named(kernel), decode(p))); },
      py::arg("kernel"), py::arg("problem"));
  m.def(
      "why_not_auto",
      [](const std::string& kernel, const std::string& p, const std::string& precision) {
        return reason(why_not_auto(row_named(kernel), decode(p), precision_of(precision)));
      },
      py::arg("kernel"), py::arg("problem"), py::arg("precision") = "high");
  m.def(
      "choose",
      [](const std::string& direction, const std::string& p, const std::string& precision, bool must_win) {
        const ConvPlan plan = choose(direction_of(direction), decode(p), precision_of(precision), must_win);
        return reason(plan.row ? plan.row->name : nullptr);
      },
      py::arg("direction"), py::arg("problem"), py::arg("precision") = "high", py::arg("must_win") = false);
  m.def(
      "seen_by",
      [](const std::string& kernel, const std::string& text) {
        const ConvProblem p = decode(text);
        return encode(plan_named(kernel, p, row_named(kernel).direction).problem);
      },
      py::arg("kernel"), py::arg("problem"));
  m.def(
      "packed_bytes",
      [](const std::string& kernel, const std::string& text) {
        const ConvProblem p = decode(text);
        return packed_bytes(plan_named(kernel, p, row_named(kernel).direction));
      },
      py::arg("kernel"), py::arg("problem"));
  m.def(
      "workspace_bytes",
      [](const std::string& kernel, const std::string& text) {
        const ConvPlan plan = plan_named(kernel, decode(text), row_named(kernel).direction);
        const ConvKernel& own = *plan.row->kernel;
        return own.workspace ? own.workspace(plan.problem) : size_t{0};
      },
      py::arg("kernel"), py::arg("problem"));
  m.def("canonical", [](const std::string& text) { return encode(decode(text)); }, py::arg("problem"));
  m.def("adjoint", [](const std::string& text) { return encode(adjoint(decode(text))); }, py::arg("problem"));

  const auto add_forward = [&](const char* name, const char* input, Direction direction) {
    m.def(
        name,
        [direction](const std::string& kernel, const std::string& p, const py::array& in, const py::array& w,
                    const std::optional<py::array>& out, const py::object& scale, const py::object& shift,
                    const std::optional<py::array>& residual, const std::string& activation,
                    const std::optional<py::array>& packed) {
          return forward(direction, kernel, p, in, w, out, scale, shift, residual, activation, packed);
        },
        py::arg("kernel"), py::arg("problem"), py::arg(input), py::arg("w"), py::arg("out") = none, py::kw_only(),
        py::arg("scale") = none, py::arg("shift") = none, py::arg("residual") = none, py::arg("activation") = "none",
        py::arg("packed") = none);
  };
  add_forward("fprop", "x", Direction::kFprop);
  add_forward("dgrad", "dy", Direction::kDgrad);
  m.def("wgrad", &wgrad, py::arg("kernel"), py::arg("problem"), py::arg("x"), py::arg("dy"), py::arg("out") = none);
  m.def("pack", &pack_weight, py::arg("kernel"), py::arg("problem"), py::arg("w"));
  m.def(
      "bias_grad",
      [](const std::string& text, const py::array& dy) {
        const ConvProblem p = decode(text);
        ConvProblem one = p;  // K numbers: the y of a single pixel
        one.N = one.Z = one.P = one.Q = one.D = one.T = 1;
        py::array dbias = new_activation(one, Operand::kY).reshape({p.K});
        const void* data = activation_data("dy", dy, p, Operand::kY, false);
        std::lock_guard lock(one_call);
        bias_grad(p, data, dbias.mutable_data());
        return dbias;
      },
      py::arg("problem"), py::arg("dy"));

  m.def("machine", &machine);
  m.def("num_threads", &num_threads);
  m.def(
      "set_threads",
      [](int threads) {
        if (threads < 1 || threads > 1024)
          throw std::invalid_argument("threads is " + std::to_string(threads) + "; it must be in [1, 1024]");
        py::gil_scoped_release release;
        std::lock_guard lock(one_call);
        use_threads(threads);
      },
      py::arg("threads"));
  m.def(
      "fma_peak",
      [](double seconds) {
        py::gil_scoped_release release;
        std::lock_guard lock(one_call);
        return measured_peak(best_target(), seconds);
      },
      py::arg("seconds") = 0.2);
}
