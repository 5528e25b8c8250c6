// Kernels with one planted fault each, and the same kernels without it: what core/cuda_on_cpu must catch.
//
//   cuda_on_cpu_faults NAME right|wrong
//   cuda_on_cpu_faults --list
//
// Runs the kernel in several orders. Exit code 0: the numbers are right in all; 1: "caught: " and how. A fault that is
// an access outside memory is AddressSanitizer's to catch: build with -DFASTCONV_SANITIZE=address,undefined.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "core/cuda/launch.h"
#include "core/cuda/ptx.h"
#include "core/cuda/reduce.h"

#if defined(__SANITIZE_ADDRESS__)
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() { return "detect_leaks=0"; }
#endif

namespace fastconv {
namespace {

constexpr int kThreads = 128, kSeeds = 8;

struct Memory {
  alignas(1024) float box[4][kThreads];
  uint64_t full, empty;
};

/// 16 rows of 8 chunks of four floats, boxes of 8 chunks by 4 rows.
TensorMap rows_of(const float* data, Swizzle swizzle) {
  TiledTensor tensor;
  tensor.dtype = DType::kFloat32;
  tensor.data = data;
  tensor.rank = 2;
  tensor.extent[0] = 32, tensor.extent[1] = 16, tensor.stride[1] = 128;
  tensor.box[0] = 32, tensor.box[1] = 4;
  tensor.swizzle = swizzle;
  return tensor_map(tensor);
}

void begin_box(Memory& s, const TensorMap& map, unsigned bytes, unsigned arrivals) {
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&s.full, 1);
    ptx::mbarrier_init(&s.empty, arrivals);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(&s.full, bytes);
    ptx::tma_load(s.box[0], map, {0, 0}, &s.full);
  }
}

/// `in` and `out` are 512 floats; the first kThreads of `out` are expected to be what `value` says.
struct Case {
  const char* name;
  const char* how;  // wrong: numbers, deadlock, address, refused (with a reason); several may do
  void (*kernel)(bool wrong, const float* in, float* out);
  float (*value)(const float* in, int i);
};

const Case kCases[] = {
    {"missing_syncthreads", "numbers",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       s.box[0][threadIdx.x] = in[threadIdx.x];
       if (!wrong) __syncthreads();
       out[threadIdx.x] = s.box[0][kThreads - 1 - threadIdx.x];
     },
     [](const float* in, int i) { return in[kThreads - 1 - i]; }},
    {"barrier_between_uses_missing", "numbers",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       float sum = 0;
       for (int round = 0; round < 4; ++round) {
         s.box[0][threadIdx.x] = in[128 * round + static_cast<int>(threadIdx.x)];
         __syncthreads();
         sum += s.box[0][threadIdx.x ^ 64];
         if (!wrong) __syncthreads();
       }
       out[threadIdx.x] = sum;
     },
     [](const float* in, int i) { return in[i ^ 64] + in[128 + (i ^ 64)] + in[256 + (i ^ 64)] + in[384 + (i ^ 64)]; }},
    {"shifted_index", "numbers",
     [](bool wrong, const float* in, float* out) {
       out[threadIdx.x] = in[threadIdx.x] + in[threadIdx.x + (wrong ? 2 : 1)];
     },
     [](const float* in, int i) { return in[i] + in[i + 1]; }},
    {"unwritten_tail", "numbers",
     [](bool wrong, const float* in, float* out) {
       if (!wrong || threadIdx.x % 32 != 31) out[threadIdx.x] = in[threadIdx.x];
     },
     [](const float* in, int i) { return in[i]; }},
    {"missing_cp_async_wait", "numbers",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       ptx::cp_async<4>(&s.box[0][threadIdx.x], in + threadIdx.x);
       ptx::cp_async_commit();
       if (wrong) ptx::cp_async_wait<1>();
       else ptx::cp_async_wait<0>();
       __syncthreads();
       out[threadIdx.x] = s.box[0][threadIdx.x ^ 1];
     },
     [](const float* in, int i) { return in[i ^ 1]; }},
    {"wrong_swizzle", "numbers",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       const TensorMap map = rows_of(in, Swizzle::k128);
       begin_box(s, map, 512, 1);
       ptx::mbarrier_wait(&s.full, 0);
       const unsigned row = threadIdx.x / 32, chunk = threadIdx.x % 32 / 4;
       const unsigned turned = chunk ^ (wrong ? row / 2 % 4 : row % 8);
       out[threadIdx.x] = s.box[0][row * 32 + turned * 4 + threadIdx.x % 4];
     },
     [](const float* in, int i) { return in[i]; }},
    {"wrong_parity", "numbers deadlock",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       const TensorMap map = rows_of(in, Swizzle::kNone);
       begin_box(s, map, 512, 1);
       ptx::mbarrier_wait(&s.full, wrong ? 1 : 0);
       out[threadIdx.x] = s.box[0][threadIdx.x];
       ptx::mbarrier_wait(&s.full, 0);
     },
     [](const float* in, int i) { return in[i]; }},
    {"too_many_bytes_expected", "deadlock",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       const TensorMap map = rows_of(in, Swizzle::kNone);
       begin_box(s, map, wrong ? 528 : 512, 1);
       ptx::mbarrier_wait(&s.full, 0);
       out[threadIdx.x] = s.box[0][threadIdx.x];
     },
     [](const float* in, int i) { return in[i]; }},
    {"slot_not_waited_for", "numbers deadlock refused",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       const TensorMap map = rows_of(in, Swizzle::kNone);
       begin_box(s, map, 512, kThreads);
       float sum = 0;
       for (int round = 0; round < 4; ++round) {
         ptx::mbarrier_wait(&s.full, round & 1);
         sum += s.box[0][threadIdx.x];
         if (round == 3) break;
         ptx::mbarrier_arrive(&s.empty);
         if (threadIdx.x == 0) {
           if (!wrong) ptx::mbarrier_wait(&s.empty, round & 1);
           ptx::mbarrier_arrive_expect_tx(&s.full, 512);
           ptx::tma_load(s.box[0], map, {0, 4 * (round + 1)}, &s.full);
         }
       }
       out[threadIdx.x] = sum;
     },
     [](const float* in, int i) { return in[i] + in[128 + i] + in[256 + i] + in[384 + i]; }},
    {"store_read_not_waited_for", "numbers refused",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       const TensorMap map = rows_of(out, Swizzle::kNone);
       s.box[0][threadIdx.x] = in[threadIdx.x];
       ptx::fence_proxy_async();
       __syncthreads();
       if (threadIdx.x == 0) {
         ptx::tma_store(map, s.box[0], {0, 0});
         ptx::bulk_commit();
         if (!wrong) ptx::bulk_wait_read<0>();
       }
       __syncthreads();
       s.box[0][threadIdx.x] = 0;
     },
     [](const float* in, int i) { return in[i]; }},
    {"missing_proxy_fence", "numbers",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       const TensorMap map = rows_of(out, Swizzle::kNone);
       s.box[0][threadIdx.x] = in[threadIdx.x];
       if (!wrong) ptx::fence_proxy_async();
       __syncthreads();
       if (threadIdx.x == 0) {
         ptx::tma_store(map, s.box[0], {0, 0});
         ptx::bulk_commit();
         ptx::bulk_wait<0>();
       }
     },
     [](const float* in, int i) { return in[i]; }},
    {"barrier_in_a_branch", "deadlock",
     [](bool wrong, const float* in, float* out) {
       if (!wrong || threadIdx.x == 0) __syncthreads();
       out[threadIdx.x] = warp_sum(in[threadIdx.x]);
     },
     [](const float* in, int i) {
       float sum = 0;
       for (int lane = 0; lane < 32; ++lane) sum += in[i / 32 * 32 + lane];
       return sum;
     }},
    {"lane_missing_in_a_shuffle", "deadlock",
     [](bool wrong, const float* in, float* out) {
       if (wrong && threadIdx.x % 32 == 31) return;
       out[threadIdx.x] = __shfl_xor_sync(kAllLanes, in[threadIdx.x], 1);
     },
     [](const float* in, int i) { return in[i ^ 1]; }},
    {"past_the_end_of_global_memory", "address",
     [](bool wrong, const float* in, float* out) {
       const unsigned next = wrong ? 512 : 511;
       out[threadIdx.x] = in[threadIdx.x] + (in[threadIdx.x == 100 ? next : 0] > 1e30f ? 1.0f : 0.0f);
     },
     [](const float* in, int i) { return in[i]; }},
    {"copy_past_the_end_of_global_memory", "address",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       ptx::cp_async<4>(&s.box[0][threadIdx.x], in + (wrong && threadIdx.x == 3 ? 512 : 511));
       out[threadIdx.x] = in[threadIdx.x];
     },
     [](const float* in, int i) { return in[i]; }},
    {"past_the_end_of_shared_memory", "address",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       auto* words = reinterpret_cast<float*>(&s);
       const size_t end = sizeof(Memory) / sizeof(float);
       out[threadIdx.x] = in[threadIdx.x] + (words[wrong ? end : end - 1] > 1e30f ? 1.0f : 0.0f);
     },
     [](const float* in, int i) { return in[i]; }},
    {"copy_past_the_end_of_shared_memory", "refused",
     [](bool wrong, const float* in, float* out) {
       auto& s = shared_memory<Memory>();
       float* end = reinterpret_cast<float*>(&s + 1);
       ptx::cp_async<16>(end - (wrong && threadIdx.x == 3 ? 0 : 4), in);
       ptx::cp_async_commit();
       ptx::cp_async_wait<0>();
       out[threadIdx.x] = in[threadIdx.x];
     },
     [](const float* in, int i) { return in[i]; }},
};

/// What is wrong, or nothing.
std::string run(const Case& test, bool wrong, uint64_t seed) {
  std::vector<float> in(512), out(512, std::numeric_limits<float>::quiet_NaN());
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i * 29 % 101 + 1);
  cuda_on_cpu::Grid grid;
  grid.block.x = kThreads;
  grid.shared_bytes = sizeof(Memory);
  grid.kernel = test.name;
  cuda_on_cpu::set_seed(seed);
  try {
    cuda_on_cpu::run_grid(grid, [&] { test.kernel(wrong, in.data(), out.data()); });
  } catch (const std::runtime_error& error) {
    const bool deadlock = std::strstr(error.what(), "deadlock");
    return std::string(deadlock ? "" : "refused, ") + error.what();
  }
  for (int i = 0; i < kThreads; ++i)
    if (!(out[static_cast<size_t>(i)] == test.value(in.data(), i))) return "wrong numbers";
  return "";
}

}  // namespace
}  // namespace fastconv

int main(int argc, char** argv) {
  using namespace fastconv;
  if (argc == 2 && !std::strcmp(argv[1], "--list")) {
    for (const Case& test : kCases) std::printf("%s: %s\n", test.name, test.how);
    return 0;
  }
  if (argc == 3)
    for (const Case& test : kCases) {
      if (std::strcmp(test.name, argv[1])) continue;
      for (int seed = 1; seed <= kSeeds; ++seed) {
        const std::string error = run(test, !std::strcmp(argv[2], "wrong"), static_cast<uint64_t>(seed));
        if (error.empty()) continue;
        std::printf("caught: %s (seed %d)\n", error.c_str(), seed);
        return 1;
      }
      return 0;
    }
  std::fprintf(stderr, "cuda_on_cpu_faults NAME right|wrong, or --list\n");
  return 2;
}
