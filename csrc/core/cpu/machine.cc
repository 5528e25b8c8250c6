#include "core/cpu/machine.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fastconv {
namespace {

Target detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // All that cmake/isa.cmake lets the compiler use.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))
    return Target::kCpu;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw"))
    return Target::kAvx512;
  return Target::kAvx2;
#endif
  return Target::kCpu;
}

struct Choice {
  Target detected, allowed;
};

Choice choose() {
  Choice choice{detect(), Target::kAvx512};
  if (const char* cap = std::getenv("FASTCONV_CPU_ISA"); cap && *cap) {
    if (!std::strcmp(cap, "cpu")) choice.allowed = Target::kCpu;
    else if (!std::strcmp(cap, "avx2")) choice.allowed = Target::kAvx2;
    else if (std::strcmp(cap, "avx512"))
      std::fprintf(stderr, "fastconv: FASTCONV_CPU_ISA='%s' is not one of cpu, avx2, avx512; ignored\n", cap);
  }
  return choice;
}

const Choice& choice() {
  static const Choice value = choose();
  return value;
}

size_t cache_bytes(int name, size_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<size_t>(bytes) : otherwise;
}

}  // namespace

Target best_target() { return choice().detected < choice().allowed ? choice().detected : choice().allowed; }

const char* why_not(Target target) {
  if (target > Target::kAvx512) return "it runs on a GPU";
  if (target > choice().detected)
    return target == Target::kAvx512 ? "this processor has no AVX-512 (f, vl, dq, bw)"
                                     : "this processor has no AVX2, FMA and F16C";
  if (target > choice().allowed) return "masked off by the environment variable FASTCONV_CPU_ISA";
  return nullptr;
}

#if defined(_SC_LEVEL1_DCACHE_SIZE)
size_t l1_bytes() {
  static const size_t bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  return bytes;
}
size_t l2_bytes() {
  static const size_t bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 512 << 10);
  return bytes;
}
#else
size_t l1_bytes() { return 32 << 10; }
size_t l2_bytes() { return 512 << 10; }
#endif

}  // namespace fastconv
