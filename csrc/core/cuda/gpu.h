// What code without CUDA's headers asks of CUDA's runtime. On core/cuda_on_cpu there is one GPU that runs everything.
#pragma once

namespace fastconv {

/// Ten times the major number of the device's compute capability plus the minor, e.g. 90. Throws std::runtime_error
/// where CUDA does not say.
int compute_capability(int device);

/// Multiprocessors of the current device, for kernels whose blocks stay and walk over tiles. Throws std::runtime_error
/// where CUDA does not say.
int multiprocessors();

/// Makes `device` the current one of this thread: the library has a copy of CUDA's runtime of its own, which does not
/// know what torch's has been told. Throws std::runtime_error where CUDA refuses.
void use_device(int device);

}  // namespace fastconv
