// fastconv._cuda_on_cpu: the CUDA kernels on NumPy arrays, run thread by thread on the CPU by core/cuda_on_cpu. For
// tests; the device is one of compute capability 9.0, which runs every row.

#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/cuda/run.h"
#include "core/cuda_on_cpu/scheduler.h"
#include "families.h"
#include "python/family.h"

namespace fastconv {
namespace {

constexpr int kCapability = 90;

/// The workspace is NaN before the call, as torch's allocator promises nothing of it.
template <class F>
void run_emulated(const Plan<F>& plan, const typename F::Problem& problem, const typename F::Args& args) {
  const size_t bytes = (gpu_workspace(plan, problem, args) + 255) / 256 * 256;
  const std::unique_ptr<void, decltype(&std::free)> memory(bytes ? std::aligned_alloc(256, bytes) : nullptr, std::free);
  if (bytes && !memory) throw std::bad_alloc();
  if (bytes) std::memset(memory.get(), 0xff, bytes);
  auto with_memory = args;
  with_memory.workspace = memory.get();
  run_on_gpu(plan, problem, with_memory);
}

template <class F>
void bind(py::module_ m) {
  bind_row<F>(m, nullptr);
  bind_rows<F>(m, F::cuda_rows());
  bind_facts<F>(m);
  bind_choice<F, int, bool>(m, F::cuda_table, py::arg("capability") = kCapability, py::arg("allow_tf32") = true);
  bind_runs<F>(m, +[] { return F::cuda_table(kCapability, true); }, run_emulated<F>);
}

}  // namespace
}  // namespace fastconv

PYBIND11_MODULE(_cuda_on_cpu, m) {
  using namespace fastconv;  // NOLINT: one function
  m.doc() = "The CUDA kernels on NumPy arrays, run on the CPU.";
  for_each_family([&](auto family) {
    using F = decltype(family);
    bind<F>(m.def_submodule(name_of(F::kId)));
  });
  m.def("set_seed", &cuda_on_cpu::set_seed, py::arg("seed"), "The order in which threads run from now on.");
}
