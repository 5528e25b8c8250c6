#include "core/cpu/machine.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fastconv {
namespace {

/// Each target of this kind of processor, with what the machine says when it has none of it.
struct Known {
  const Target* target;
  const char* missing;
  bool (*is_there)();
};
constexpr Known kKnown[] = {
    {&target::cpu, "", [] { return true; }},
#if defined(__x86_64__)
    {&target::avx2, "this processor has no AVX2, FMA and F16C",
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }},
    {&target::avx512, "this processor has no AVX-512 (f, vl, dq, bw)",
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
     }},
#else
    {&target::avx2, "this processor is no x86-64", [] { return false; }},
    {&target::avx512, "this processor is no x86-64", [] { return false; }},
#endif
};

struct Levels {
  int detected = 0, allowed = target::avx512.level;
};

Levels find_levels() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  Levels levels;
  while (levels.detected < target::avx512.level && kKnown[levels.detected + 1].is_there()) ++levels.detected;
  const char* cap = std::getenv("FASTCONV_CPU_ISA");
  if (!cap || !*cap) return levels;
  for (const Known& known : kKnown)
    if (!std::strcmp(cap, known.target->name)) {
      levels.allowed = known.target->level;
      return levels;
    }
  std::fprintf(stderr, "fastconv: FASTCONV_CPU_ISA='%s' is not one of cpu, avx2, avx512; ignored\n", cap);
  return levels;
}

const Levels& levels() {
  static const Levels value = find_levels();
  return value;
}

size_t cache_bytes(int name, size_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<size_t>(bytes) : otherwise;
}

}  // namespace

const Target& best_target() {
  const Levels& here = levels();
  return *kKnown[here.detected < here.allowed ? here.detected : here.allowed].target;
}

const char* why_not(const Target& target) {
  if (target.device != DeviceKind::kCpu) return "it runs on a GPU";
  if (target.level > levels().detected) return kKnown[levels().detected + 1].missing;
  if (target.level > levels().allowed) return "masked off by the environment variable FASTCONV_CPU_ISA";
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
