// fastconv._cuda_on_cpu: the CUDA kernels on NumPy arrays, run thread by thread on the CPU by core/cuda_on_cpu. For
// tests; the device is one of compute capability 9.0, which runs every row.

#include <cstdlib>
#include <cstring>
#include <memory>

#include "conv/cuda/conv.h"
#include "core/cuda_on_cpu/scheduler.h"
#include "python/rows.h"

namespace py = pybind11;

namespace fastconv {
namespace {

constexpr int kCapability = 90;

/// The workspace is NaN before the call, as torch's allocator promises nothing of it.
void run_emulated(const ConvPlan& plan, const ConvProblem& problem, const ConvArgs& args) {
  const size_t bytes = (cuda_workspace(plan, problem, args) + 255) / 256 * 256;
  const std::unique_ptr<void, decltype(&std::free)> memory(bytes ? std::aligned_alloc(256, bytes) : nullptr, std::free);
  if (bytes && !memory) throw std::bad_alloc();
  if (bytes) std::memset(memory.get(), 0xff, bytes);
  ConvArgs with_memory = args;
  with_memory.workspace = memory.get();
  run_cuda(plan, problem, with_memory);
}

}  // namespace
}  // namespace fastconv

PYBIND11_MODULE(_cuda_on_cpu, m) {
  using namespace fastconv;  // NOLINT: one function
  m.doc() = "The CUDA kernels on NumPy arrays, run on the CPU.";
  bind_rows(m, cuda_conv_rows(), +[](Target) -> const char* { return nullptr; });
  bind_choice(m, cuda_conv_table, py::arg("capability") = kCapability, py::arg("allow_tf32") = true);
  bind_runs(m, cuda_conv_table(kCapability, true), run_emulated);
  m.def("set_seed", &cuda_on_cpu::set_seed, py::arg("seed"), "The order in which threads run from now on.");
}
