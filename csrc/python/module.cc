// fastconv._core: the kernel tables, machine facts, and the CPU's kernels on NumPy arrays. No torch.
//
// A kernel or a problem is named by its text, so that Python and C++ share no object but arrays. One call runs at a
// time: the module has one thread pool, of one thread until `set_threads`.

#include <cstdlib>
#include <thread>

#include "conv/conv.h"
#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"
#include "core/cpu/peak.h"
#include "core/cpu/thread_pool.h"
#include "python/arrays.h"
#include "python/rows.h"
#if defined(FASTCONV_WITH_CUDA)
#include "conv/cuda/conv.h"
#endif

namespace py = pybind11;

namespace fastconv {
namespace {

void run_here(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  if (!run(plan, problem, args)) throw std::bad_alloc();
}

py::array pack_weight(const std::string& kernel, const std::string& text, const py::array& weight) {
  const ConvProblem p = decode(text);
  const ConvPlan plan = plan_named(conv_table(), kernel, p, row_named(conv_table(), kernel).direction);
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

py::array bias_grad_of(const std::string& text, const py::array& dy) {
  const ConvProblem p = decode(text);
  ConvProblem one = p;  // K numbers: the y of a single pixel
  one.N = one.Z = one.P = one.Q = one.D = one.T = 1;
  py::array dbias = new_activation(one, Operand::kY).reshape({p.K});
  const void* data = activation_data("dy", dy, p, Operand::kY, false);
  std::lock_guard lock(one_call);
  bias_grad(p, data, dbias.mutable_data());
  return dbias;
}

py::dict machine() {
  py::dict facts;
  facts["isa"] = name_of(best_target());
  facts["cores"] = std::thread::hardware_concurrency();
  facts["l1_bytes"] = l1_bytes();
  facts["l2_bytes"] = l2_bytes();
  return facts;
}

#if defined(FASTCONV_WITH_CUDA)
std::span<const ConvRow> known_cuda_rows() { return cuda_conv_rows(); }
#else
/// The rows that a build with nvcc has: their names are listed everywhere.
const ConvRow kCudaRows[] = {
#define FASTCONV_KERNEL(target, direction, numerics, name) \
  {Target::target, Direction::direction, Numerics::numerics, #name, nullptr},
#include "conv/cuda/kernels.inc"
#undef FASTCONV_KERNEL
};
std::span<const ConvRow> known_cuda_rows() { return kCudaRows; }
#endif

void bind_cuda(py::module_ cuda) {
#if defined(FASTCONV_WITH_CUDA)
  cuda.attr("built") = true;
  bind_choice(cuda, cuda_conv_table, py::arg("capability"), py::arg("allow_tf32") = true);
  cuda.def(
      "why_not_target",
      [](const std::string& kernel, int capability) {
        const ConvTable table = cuda_conv_table(capability, true);
        return reason(table.why_not_target(row_named(table, kernel).target, capability));
      },
      py::arg("kernel"), py::arg("capability"));
#else
  cuda.attr("built") = false;
#endif
  cuda.def("conv_rows", [] {
    py::list list;
    for (const ConvRow& row : known_cuda_rows()) list.append(py::cast(&row, py::return_value_policy::reference));
    return list;
  });
}

}  // namespace
}  // namespace fastconv

PYBIND11_MODULE(_core, m) {
  using namespace fastconv;  // NOLINT: one function
  m.doc() = "Kernel tables, machine facts, and convolution kernels on NumPy arrays; no torch.";
  bind_rows(m, conv_rows(), why_not);
  bind_choice(m, +[] { return conv_table(); });
  bind_runs(m, conv_table(), run_here);
  m.def("pack", &pack_weight, py::arg("kernel"), py::arg("problem"), py::arg("w"));
  m.def("bias_grad", &bias_grad_of, py::arg("problem"), py::arg("dy"));
  m.def("canonical", [](const std::string& text) { return encode(decode(text)); }, py::arg("problem"));
  m.def("adjoint", [](const std::string& text) { return encode(adjoint(decode(text))); }, py::arg("problem"));
  bind_cuda(m.def_submodule("cuda", "The CUDA rows: listed, and asked, but not run."));

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
