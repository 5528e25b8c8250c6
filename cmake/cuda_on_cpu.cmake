# The CUDA kernels compiled by the host compiler and run by core/cuda_on_cpu: no nvcc, no GPU.

file(GLOB cuda_on_cpu_core_sources CONFIGURE_DEPENDS csrc/core/cuda_on_cpu/*.cc)
add_library(fastconv_cuda_on_cpu_core STATIC ${cuda_on_cpu_core_sources})
target_link_libraries(fastconv_cuda_on_cpu_core PUBLIC fastconv_core)

file(GLOB cuda_on_cpu_kernels CONFIGURE_DEPENDS csrc/core/cuda/*.cu)
fastconv_glob_families(family_kernels cuda/*.cu)
list(APPEND cuda_on_cpu_kernels ${family_kernels})
fastconv_glob_families(cuda_on_cpu_sources cuda/*.cc)
foreach(kernel IN LISTS cuda_on_cpu_kernels)
  # A name that the host compiler takes for C++, in a folder of its family's.
  file(RELATIVE_PATH stem ${CMAKE_SOURCE_DIR}/csrc ${kernel})
  string(REGEX REPLACE "\\.cu$" "" stem ${stem})
  set(wrapper ${CMAKE_BINARY_DIR}/cuda_on_cpu/${stem}.cc)
  file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${kernel}\"\n")
  list(APPEND cuda_on_cpu_sources ${wrapper})
endforeach()
add_library(fastconv_cuda_on_cpu STATIC ${cuda_on_cpu_sources})
target_link_libraries(fastconv_cuda_on_cpu PUBLIC fastconv_cuda_on_cpu_core)
foreach(library fastconv_cuda_on_cpu_core fastconv_cuda_on_cpu)
  target_compile_options(${library} PRIVATE -Wno-unknown-pragmas)
  fastconv_precompile(${library})
  if(NOT FASTCONV_SANITIZE)
    target_compile_options(${library} PRIVATE -O2)  # -O3 unrolls what runs once
  endif()
endforeach()

if(FASTCONV_TOOLS)
  add_executable(kernel_test_cuda_on_cpu csrc/tools/kernel_test.cc)
  target_compile_definitions(kernel_test_cuda_on_cpu PRIVATE FASTCONV_TOOL_CUDA)
  target_link_libraries(kernel_test_cuda_on_cpu PRIVATE fastconv_cuda_on_cpu)

  # The emulator against cases worked by hand, and planted faults that it must catch.
  add_executable(cuda_on_cpu_test csrc/tools/cuda_on_cpu_test.cc csrc/tools/cuda_on_cpu_test_barriers.cc
                                  csrc/tools/cuda_on_cpu_test_bulk.cc csrc/tools/cuda_on_cpu_test_pipeline.cc
                                  csrc/tools/cuda_on_cpu_test_wgmma.cc)
  target_link_libraries(cuda_on_cpu_test PRIVATE fastconv_cuda_on_cpu_core)

  add_executable(cuda_on_cpu_faults csrc/tools/cuda_on_cpu_faults.cc)
  target_link_libraries(cuda_on_cpu_faults PRIVATE fastconv_cuda_on_cpu_core)
  target_compile_options(cuda_on_cpu_faults PRIVATE -Wno-unknown-pragmas)
endif()
