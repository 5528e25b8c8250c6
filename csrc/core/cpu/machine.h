// What this machine can run, found out once.
#pragma once

#include <cstddef>

#include "core/target.h"

namespace fastconv {

/// The widest target this process may use: what the processor has, capped by FASTCONV_CPU_ISA (cpu, avx2, avx512).
const Target& best_target();

/// Null where rows of `target` can run here, else the reason in words.
const char* why_not(const Target& target);

/// Bytes of the data caches of one core, by the system's word, or common sizes where it has none.
size_t l1_bytes();
size_t l2_bytes();

}  // namespace fastconv
