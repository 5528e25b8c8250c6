# The torch op library: LibTorch's stable ABI for torch 2.10 and later, no Python symbols, headers of torch only.
#
# FASTCONV_TORCH_DIR is the folder of the installed torch package; asked from FASTCONV_PYTHON_EXECUTABLE (default python3)
# where it is not given.

set(FASTCONV_TORCH_DIR "" CACHE PATH "Folder of the torch package (holds include/ and lib/)")
set(FASTCONV_PYTHON_EXECUTABLE python3 CACHE STRING "Python that is asked where torch is")

if(NOT FASTCONV_TORCH_DIR)
  execute_process(
    COMMAND ${FASTCONV_PYTHON_EXECUTABLE} -c
            "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT found)
    message(FATAL_ERROR "torch was not found by ${FASTCONV_PYTHON_EXECUTABLE}; give its folder by -DFASTCONV_TORCH_DIR=..., "
                        "or build without the op library by -DFASTCONV_TORCH=OFF")
  endif()
  set(FASTCONV_TORCH_DIR ${found} CACHE PATH "" FORCE)
endif()
find_library(FASTCONV_LIBTORCH_CPU torch_cpu PATHS ${FASTCONV_TORCH_DIR}/lib NO_DEFAULT_PATH REQUIRED)

function(fastconv_add_torch_library name)
  add_library(${name} MODULE ${ARGN})
  target_include_directories(${name} SYSTEM PRIVATE ${FASTCONV_TORCH_DIR}/include)
  target_compile_definitions(${name} PRIVATE TORCH_TARGET_VERSION=0x020a000000000000)
  # torch is loaded before this library, so it needs no run path.
  if(FASTCONV_WITH_CUDA AND TARGET fastconv_cuda)
    target_compile_definitions(${name} PRIVATE FASTCONV_WITH_CUDA)
    target_link_libraries(${name} PRIVATE fastconv_cuda)
  endif()
  target_link_libraries(${name} PRIVATE fastconv_kernels ${FASTCONV_LIBTORCH_CPU} ${CMAKE_DL_LIBS})
  set_target_properties(${name} PROPERTIES PREFIX "" SUFFIX ".so" SKIP_BUILD_RPATH TRUE)
  install(TARGETS ${name} LIBRARY DESTINATION fastconv)
endfunction()
