#include "core/cuda/gpu.h"

#include <stdexcept>
#include <string>

#include "core/cuda/device.h"

namespace fastconv {

#if defined(__CUDACC__)
namespace {

void check(cudaError_t error, int device) {
  if (error == cudaSuccess) return;
  throw std::runtime_error("fastconv: CUDA device " + std::to_string(device) + ": " + cudaGetErrorString(error));
}

}  // namespace

int compute_capability(int device) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), device);
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), device);
  return 10 * major + minor;
}

int multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), device);
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), device);
  return count;
}

void use_device(int device) { check(cudaSetDevice(device), device); }
#else
int compute_capability(int) { return 90; }
int multiprocessors() { return 2; }  // few, so that blocks walk over several tiles
void use_device(int) {}
#endif

}  // namespace fastconv
