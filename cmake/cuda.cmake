# FASTCONV_CUDA=AUTO|ON|OFF: whether the CUDA kernels are built. AUTO asks for nvcc, never for a GPU: a build machine
# need not have one.

if(NOT FASTCONV_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "FASTCONV_CUDA=${FASTCONV_CUDA} is not one of AUTO, ON, OFF")
endif()
set(FASTCONV_WITH_CUDA OFF)
if(NOT FASTCONV_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(FASTCONV_WITH_CUDA ON)
    message(STATUS "fastconv: nvcc found (${CMAKE_CUDA_COMPILER}); the table has no CUDA kernels yet, so none is built")
  elseif(FASTCONV_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FASTCONV_CUDA=ON, but no nvcc was found; set CUDACXX or PATH, or use FASTCONV_CUDA=AUTO")
  else()
    message(STATUS "fastconv: no nvcc found; CPU kernels only")
  endif()
endif()
