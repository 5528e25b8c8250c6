// The rows that this build of the tools is about: the CPU's; or CUDA's (FASTCONV_TOOL_CUDA), on a GPU
// (FASTCONV_TOOL_GPU) or on core/cuda_on_cpu. And memory.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>

#include "core/cpu/machine.h"
#include "core/table.h"
#include "families.h"

#if defined(FASTCONV_TOOL_CUDA)
#include "core/cuda/run.h"
#if defined(FASTCONV_TOOL_GPU)
#include <cuda_runtime_api.h>
#else
#include "core/cuda_on_cpu/scheduler.h"
#endif
#endif

namespace fastconv {

#if defined(FASTCONV_TOOL_CUDA)
template <class F>
std::span<const Row<F>> tool_rows() {
  return F::cuda_rows();
}
/// CUDA kernels take activations aligned to 16 bytes, as torch allocates them; the binding copies others.
constexpr bool kToolUnaligned = false;
/// Whether Winograd's outputs are finite where plain sums are (docs/numerics.md).
constexpr bool kToolKeepsRange = false;
/// Every shape is tried in all of them.
constexpr DType kToolDTypes[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16};
#else
template <class F>
std::span<const Row<F>> tool_rows() {
  return F::cpu_rows();
}
constexpr bool kToolUnaligned = true, kToolKeepsRange = true;
#endif

#if defined(FASTCONV_TOOL_GPU)
inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}
inline const char* tool_why_not(const Target& target) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  return why_not_on_gpu(target, 10 * major + minor);
}
inline void set_seed(uint64_t) {}
struct GpuRelease {
  void operator()(void* memory) const { cudaFree(memory); }
};
using GpuMemory = std::unique_ptr<void, GpuRelease>;
inline GpuMemory gpu_memory(size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes ? bytes : 1));
  return GpuMemory(memory);
}
inline void copy_to_gpu(void* to, const void* from, size_t bytes) {
  check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
}
inline size_t l2_bytes() {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, 0));
  return static_cast<size_t>(bytes);
}
/// The time between two places in the GPU's work, by its own clock.
class GpuTimer {
 public:
  GpuTimer() { check(cudaEventCreate(&begin_)), check(cudaEventCreate(&end_)); }
  GpuTimer(const GpuTimer&) = delete;
  GpuTimer& operator=(const GpuTimer&) = delete;
  ~GpuTimer() { cudaEventDestroy(begin_), cudaEventDestroy(end_); }
  void begin() { check(cudaEventRecord(begin_)); }
  /// Microseconds of the work since `begin`, which is waited for.
  double end() {
    float milliseconds = 0;
    check(cudaEventRecord(end_)), check(cudaEventSynchronize(end_));
    check(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return 1e3 * milliseconds;
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};
#elif defined(FASTCONV_TOOL_CUDA)
inline const char* tool_why_not(const Target&) { return nullptr; }
inline void set_seed(uint64_t seed) { cuda_on_cpu::set_seed(seed); }
#else
inline const char* tool_why_not(const Target& target) { return why_not(target); }
inline void set_seed(uint64_t) {}
#endif

inline void* allocate(size_t alignment, size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes ? bytes : 1)) throw std::bad_alloc();
  return memory;
}
inline void release(void* memory) { std::free(memory); }

}  // namespace fastconv
