#include "torch/device.h"

#include <dlfcn.h>

#include <atomic>

#include "core/cuda/gpu.h"
#include "torch/tensor.h"

namespace fastconv::binding {
namespace {

constexpr int32_t kMostGpus = 64;

/// torch's own function of this name; null where this torch has none. libtorch_cuda is not among this library's
/// dependencies, and Python loads torch where no other library sees its symbols.
template <class Function>
Function* torch_function(const char* name) {
  if (void* found = dlsym(RTLD_DEFAULT, name)) return reinterpret_cast<Function*>(found);
  void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  return library ? reinterpret_cast<Function*>(dlsym(library, name)) : nullptr;
}

}  // namespace

Device device_of(AtenTensorHandle tensor) {
  Device device;
  if constexpr (kHasCuda) {
    static const int32_t cuda = aoti_torch_device_type_cuda();
    int32_t type = 0;
    check(aoti_torch_get_device_type(tensor, &type));
    device.cuda = type == cuda;
    if (device.cuda) check(aoti_torch_get_device_index(tensor, &device.index));
  }
  return device;
}

int capability_of(int32_t index) {
  if constexpr (kHasCuda) {
    static std::atomic<int> known[kMostGpus];
    if (index >= kMostGpus) return compute_capability(index);
    int capability = known[index].load(std::memory_order_relaxed);
    if (!capability) known[index] = capability = compute_capability(index);
    return capability;
  }
  return 0;
}

void* current_stream(int32_t index) {
  static const auto of_cuda = torch_function<AOTITorchError(int32_t, void**)>("aoti_torch_get_current_cuda_stream");
  static const auto native = torch_function<AOTITorchError(StreamHandle, void**)>("torch_stream_native_handle");
  void* stream = nullptr;
  if (of_cuda) {
    check(of_cuda(index, &stream));
    return stream;
  }
  if (!native) throw std::runtime_error("fastconv: this torch does not say which CUDA stream is the current one");
  StreamHandle handle;
  check(aoti_torch_get_current_stream(index, &handle));
  const AOTITorchError code = native(handle, &stream);
  aoti_torch_delete_stream(handle);
  check(code);
  return stream;
}

OnDevice::OnDevice(const Device& device) {
  if constexpr (kHasCuda) {
    if (!device.cuda) return;
    check(aoti_torch_create_device_guard(device.index, &guard_.handle));
    use_device(device.index);
  }
}

OnDevice::Guard::~Guard() {
  if (handle) aoti_torch_delete_device_guard(handle);
}

}  // namespace fastconv::binding
