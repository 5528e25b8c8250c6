# The CUDA kernels compiled by the host compiler and run by core/cuda_on_cpu: no nvcc, no GPU.

if(FASTCONV_TOOLS)
  add_executable(kernel_test_cuda_on_cpu csrc/tools/kernel_test.cc)
  target_compile_definitions(kernel_test_cuda_on_cpu PRIVATE FASTCONV_TOOL_CUDA FASTCONV_CUDA_ON_CPU)
  target_link_libraries(kernel_test_cuda_on_cpu PRIVATE fastconv_cuda_on_cpu)

  # The emulator against cases worked by hand, and planted faults that it must catch.
  add_executable(cuda_on_cpu_test csrc/tools/cuda_on_cpu_test.cc csrc/tools/cuda_on_cpu_test_barriers.cc
                                  csrc/tools/cuda_on_cpu_test_bulk.cc csrc/tools/cuda_on_cpu_test_wgmma.cc)
  target_link_libraries(cuda_on_cpu_test PRIVATE fastconv_cuda_on_cpu_core)
endif()
