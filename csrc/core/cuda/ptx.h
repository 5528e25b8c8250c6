// All inline PTX of the project, one documented function an instruction; by the host compiler, their twins of
// core/cuda_on_cpu. Every pointer is generic: where an instruction wants an address of shared memory it is converted
// here.
#pragma once

#include "core/cuda/ptx_async.h"
#include "core/cuda/ptx_mma.h"
