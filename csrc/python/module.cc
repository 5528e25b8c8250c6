// fastconv._core: the kernel tables, machine facts, and the CPU's kernels on NumPy arrays, a submodule a family. No
// torch.
//
// A kernel or a problem is named by its text, so that Python and C++ share no object but arrays. One call runs at a
// time: the module has one thread pool, of one thread until `set_threads`.

#include <thread>

#include "conv/bias_grad.h"
#include "core/cpu/machine.h"
#include "core/cpu/parallel.h"
#include "core/cpu/peak.h"
#include "core/cpu/run.h"
#include "core/cpu/thread_pool.h"
#include "families.h"
#include "python/family.h"

namespace fastconv {
namespace {

template <class F>
void run_here(const Plan<F>& plan, const typename F::Problem& problem, const typename F::Args& args) {
  if (!run(plan, problem, args)) throw std::bad_alloc();
}

py::array bias_grad_of(const std::string& text, const py::array& dy) {
  const ConvProblem p = decode(text);
  const Extents y = Conv::extents(p, Side::kY), one{1, p.K, {1, 1, 1}, Layout::kNhwc};
  py::array dbias = new_activation(numpy_dtype(p.dtype), one, false).reshape({p.K});
  const void* data = activation_data({"dy", numpy_dtype(p.dtype), text, false}, dy, y, Conv::has_depth(p));
  std::lock_guard lock(one_call);
  bias_grad(p, data, dbias.mutable_data());
  return dbias;
}

py::dict machine() {
  py::dict facts;
  facts["isa"] = best_target().name;
  facts["cores"] = std::thread::hardware_concurrency();
  facts["l1_bytes"] = l1_bytes();
  facts["l2_bytes"] = l2_bytes();
  return facts;
}

template <class F>
void bind_cpu(py::module_ m) {
  bind_row<F>(m, why_not);
  bind_rows<F>(m, F::cpu_rows());
  bind_facts<F>(m);
  bind_choice<F>(m, +[] { return F::cpu_table(); });
  bind_runs<F>(m, +[] { return F::cpu_table(); }, run_here<F>);
}

#if defined(FASTCONV_WITH_CUDA)
constexpr bool kCudaBuilt = true;
template <class F>
void bind_cuda(py::module_ m) {
  bind_rows<F>(m, F::cuda_rows());
  bind_choice<F, int, bool>(m, F::cuda_table, py::arg("capability"), py::arg("allow_tf32") = true);
}
#else
constexpr bool kCudaBuilt = false;
/// The rows that a build with nvcc has: their names are listed everywhere.
template <class F>
void bind_cuda(py::module_ m) {
  bind_rows<F>(m, F::cuda_names());
}
#endif

}  // namespace
}  // namespace fastconv

PYBIND11_MODULE(_core, m) {
  using namespace fastconv;  // NOLINT: one function
  m.doc() = "Kernel tables, machine facts, and kernels on NumPy arrays; no torch.";
  py::module_ cuda = m.def_submodule("cuda", "The CUDA rows: listed, and asked, but not run.");
  cuda.attr("built") = kCudaBuilt;
  for_each_family([&](auto family) {
    using F = decltype(family);
    bind_cpu<F>(m.def_submodule(name_of(F::kId)));
    bind_cuda<F>(cuda.def_submodule(name_of(F::kId)));
  });
  m.def("families",
        [] { return std::vector<std::string>(std::begin(Names<FamilyId>::kAll), std::end(Names<FamilyId>::kAll)); });
  py::module_ conv = m.attr("conv");
  conv.def("bias_grad", &bias_grad_of, py::arg("problem"), py::arg("dy"));
  conv.def("adjoint", [](const std::string& text) { return encode(adjoint(decode(text))); }, py::arg("problem"));

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
