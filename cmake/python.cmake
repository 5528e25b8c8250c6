# The pybind11 modules: _core, and _cuda_on_cpu for tests.

find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir OUTPUT_VARIABLE pybind11_DIR
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
find_package(pybind11 CONFIG REQUIRED)

set(shared_sources csrc/python/arrays.cc csrc/python/family.cc)
pybind11_add_module(_core MODULE NO_EXTRAS csrc/python/module.cc ${shared_sources})
target_link_libraries(_core PRIVATE fastconv_kernels)
if(FASTCONV_WITH_CUDA AND TARGET fastconv_cuda)
  target_compile_definitions(_core PRIVATE FASTCONV_WITH_CUDA)
  target_link_libraries(_core PRIVATE fastconv_cuda)
endif()
install(TARGETS _core LIBRARY DESTINATION fastconv)

if(FASTCONV_CUDA_ON_CPU_MODULE)
  pybind11_add_module(_cuda_on_cpu MODULE NO_EXTRAS csrc/python/cuda_on_cpu.cc ${shared_sources})
  target_link_libraries(_cuda_on_cpu PRIVATE fastconv_cuda_on_cpu)
  install(TARGETS _cuda_on_cpu LIBRARY DESTINATION fastconv)
endif()
