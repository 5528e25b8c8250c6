// The one place that starts kernels.
#pragma once

#include <stdexcept>
#include <string>

#include "core/cuda/device.h"

namespace fastconv {

struct Extents3 {
  unsigned x = 1, y = 1, z = 1;
};

struct Launch {
  Extents3 grid, block;
  size_t shared_bytes = 0;
  Extents3 cluster = {};
  void* stream = nullptr;
};

/// Most blocks along x, and along y and z.
constexpr int64_t kMaxGridX = (int64_t{1} << 31) - 1, kMaxGridYZ = 65535;

#if defined(__CUDACC__)
/// Throws std::runtime_error naming the kernel, the problem and CUDA's reason.
template <class Problem>
void check_cuda(cudaError_t error, const char* name, const Problem& problem) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("fastconv: ") + name + " on " + encode(problem) + ": " +
                           cudaGetErrorString(error));
}

/// Lets `kernel` ask for all the shared memory that the current device gives a block: what one launch needs would bind
/// a larger one that another thread is about to make.
inline cudaError_t allow_all_shared_memory(const void* kernel) {
  int device = 0, most = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  if (const cudaError_t error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
    return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
}
#endif

/// Runs `kernel(arguments...)` for every thread of the grid; an empty grid runs nothing. Throws std::runtime_error
/// where CUDA refuses the launch, with the problem as its `encode` writes it.
template <class Problem, class... Parameters, class... Arguments>
void launch(const char* name, const Problem& problem, void (*kernel)(Parameters...), const Launch& at,
            const Arguments&... arguments) {
  if (at.grid.x == 0 || at.grid.y == 0 || at.grid.z == 0) return;
#if defined(__CUDACC__)
  if (at.shared_bytes > 48 * 1024)
    check_cuda(allow_all_shared_memory(reinterpret_cast<const void*>(kernel)), name, problem);
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(at.grid.x, at.grid.y, at.grid.z);
  config.blockDim = dim3(at.block.x, at.block.y, at.block.z);
  config.dynamicSmemBytes = at.shared_bytes;
  config.stream = static_cast<cudaStream_t>(at.stream);
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {at.cluster.x, at.cluster.y, at.cluster.z};
  config.attrs = &cluster;
  config.numAttrs = at.cluster.x * at.cluster.y * at.cluster.z > 1 ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name, problem);
#else
  cuda_on_cpu::Grid grid;
  grid.grid = {at.grid.x, at.grid.y, at.grid.z};
  grid.block = {at.block.x, at.block.y, at.block.z};
  grid.cluster = {at.cluster.x, at.cluster.y, at.cluster.z};
  grid.shared_bytes = at.shared_bytes;
  const std::string text = std::string(name) + " on " + encode(problem);
  grid.kernel = text.c_str();
  cuda_on_cpu::run_grid(grid, [&] { kernel(arguments...); });
#endif
}

}  // namespace fastconv
