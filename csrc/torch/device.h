// Where a call's tensors lie, and what a call on a GPU needs of torch and of CUDA. No header of CUDA's: the stream is
// asked of torch at run time, so that a library with CUDA kernels also loads beside a torch without CUDA.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>

namespace fastconv::binding {

#if defined(FASTCONV_WITH_CUDA)
constexpr bool kHasCuda = true;
#else
constexpr bool kHasCuda = false;
#endif

/// The CPU, or a GPU by its index.
struct Device {
  bool cuda = false;
  int32_t index = 0;
  bool operator==(const Device&) const = default;
};

/// The device of a tensor. In a library without CUDA kernels every call is the CPU's.
Device device_of(AtenTensorHandle tensor);

/// Ten times the major number of the GPU's compute capability plus the minor, asked once.
int capability_of(int32_t index);

/// torch's current stream of the GPU, as CUDA's runtime takes it.
void* current_stream(int32_t index);

/// For its scope, the device is the current one of torch and of this library's kernels. Nothing for the CPU.
class OnDevice {
 public:
  explicit OnDevice(const Device& device);

 private:
  struct Guard {
    DeviceGuardHandle handle = nullptr;
    ~Guard();
  } guard_;
};

}  // namespace fastconv::binding
