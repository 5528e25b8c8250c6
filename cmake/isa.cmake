# Which compiler flags a kernel file gets.
#
# A file csrc/<family>/cpu/<kernel>.cc whose name ends in a target (_avx512.cc, _avx2.cc) is compiled once with that
# target's flags. `fastconv_add_simd_kernels` compiles the files given to it once for each target the processor family
# has, with FASTCONV_ISA set to its name; the file defines its kernel as FASTCONV_DEFINE(FASTCONV_NAME(stem)).

set(FASTCONV_FLAGS_cpu "")
set(FASTCONV_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(FASTCONV_FLAGS_avx512 -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # whose own header means to leave registers undefined
  list(APPEND FASTCONV_FLAGS_avx512 -Wno-uninitialized)
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(FASTCONV_TARGETS cpu avx2 avx512)
else()
  set(FASTCONV_TARGETS cpu)
endif()

function(fastconv_add_simd_kernels library)
  foreach(isa IN LISTS FASTCONV_TARGETS)
    add_library(${library}_${isa} OBJECT ${ARGN})
    target_compile_options(${library}_${isa} PRIVATE ${FASTCONV_FLAGS_${isa}})
    if(FASTCONV_SANITIZE)  # checks of vectors are calls in any case; where all are, a file compiles in half the time
      target_compile_options(${library}_${isa} PRIVATE
                             $<$<CXX_COMPILER_ID:GNU>:--param=asan-instrumentation-with-call-threshold=0>)
    endif()
    target_compile_definitions(${library}_${isa} PRIVATE FASTCONV_ISA=${isa})
    target_link_libraries(${library}_${isa} PRIVATE fastconv_options)
    fastconv_precompile(${library}_${isa})
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:${library}_${isa}>)
  endforeach()
endfunction()
