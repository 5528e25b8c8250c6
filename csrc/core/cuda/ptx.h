// All inline PTX of the project, one documented function an instruction; by the host compiler, their twins of
// core/cuda_on_cpu. Every pointer is generic: where an instruction wants an address of shared memory it is converted
// here.
//
// ptx_async.h and ptx_mma.h are for sm_80. The others' instructions are of sm_90: kernels that use them compile for
// every target, and stop with an error where they are run on an older one. wgmma and set_max_registers exist on sm_90a
// only.
#pragma once

#include "core/cuda/ptx_async.h"
#include "core/cuda/ptx_barrier.h"
#include "core/cuda/ptx_mma.h"
#include "core/cuda/ptx_tma.h"
#include "core/cuda/ptx_wgmma.h"
