// The rate of multiply-adds this machine reaches when nothing else is asked of it: 100 % in every table.
#pragma once

#include "core/target.h"

namespace fastconv {

/// Runs `iterations` rounds of independent float32 multiply-adds in registers; the FLOPs done. One per target.
double fma_loop_cpu(int64_t iterations);
#if defined(__x86_64__)
double fma_loop_avx2(int64_t iterations);
double fma_loop_avx512(int64_t iterations);
#endif

/// GFLOP/s of float32 multiply-adds on all threads of the pool, the best of several trials of about `seconds` in all.
/// Assumes: this machine can run `target`.
double measured_peak(const Target& target, double seconds);

}  // namespace fastconv
