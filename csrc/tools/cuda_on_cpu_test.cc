// core/cuda_on_cpu against cases worked by hand: the scheduler, and each function of ptx.h.
//
// Prints what failed, then "N passed, N failed".

#include "tools/cuda_on_cpu_test.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/cuda/ptx_max.h"

#if defined(__SANITIZE_ADDRESS__)
// Runs that end with an error leave what their threads' stacks held.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() { return "detect_leaks=0"; }
#endif

namespace fastconv {
namespace {

int passed = 0, failed = 0;

cuda_on_cpu::Grid grid_of(const Shape& shape) {
  cuda_on_cpu::Grid grid;
  grid.grid.x = shape.blocks, grid.block.x = shape.threads, grid.cluster.x = shape.cluster;
  grid.shared_bytes = shape.shared_bytes;
  grid.kernel = "case";
  return grid;
}

void test_shuffles() {
  std::vector<int> at(32), up(32), down(32), exchanged(32);
  std::vector<unsigned> votes(32), everyone(32);
  run({}, [&] {
    const unsigned lane = threadIdx.x;
    const int mine = static_cast<int>(lane) * 10;
    at[lane] = __shfl_sync(kAllLanes, mine, 3, 8);
    up[lane] = __shfl_up_sync(kAllLanes, mine, 1, 16);
    down[lane] = __shfl_down_sync(kAllLanes, mine, 2);
    exchanged[lane] = __shfl_xor_sync(kAllLanes, mine, 5);
    votes[lane] = __ballot_sync(kAllLanes, lane % 3 == 0);
    everyone[lane] = __all_sync(kAllLanes, lane < 31) + 2 * __any_sync(kAllLanes, lane == 31);
  });
  bool right = true;
  for (int lane = 0; lane < 32; ++lane) {
    const size_t i = static_cast<size_t>(lane);
    right &= at[i] == (lane / 8 * 8 + 3) * 10;
    right &= up[i] == (lane % 16 ? lane - 1 : lane) * 10;
    right &= down[i] == (lane < 30 ? lane + 2 : lane) * 10;
    right &= exchanged[i] == (lane ^ 5) * 10;
    right &= votes[i] == 0x49249249u && everyone[i] == 2;
  }
  expect(right, "shuffles and votes of a warp");
  std::vector<float> alone(32);
  run({}, [&] {
    if (threadIdx.x < 16) alone[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, threadIdx.x == 0 ? 20 : 1);
  });
  expect(std::isnan(alone[0]) && alone[1] == 1, "a shuffle from a lane outside the mask is undefined");
}

void test_scheduler() {
  std::vector<int> out(256);
  run({.threads = 256, .shared_bytes = 1024}, [&] {
    int* memory = &shared_memory<int>();
    const int i = static_cast<int>(threadIdx.x);
    for (int round = 0; round < 4; ++round) {
      memory[i] = i + round;
      __syncthreads();
      out[static_cast<size_t>(i)] = memory[255 - i];
      __syncthreads();
    }
  });
  bool right = true;
  for (int i = 0; i < 256; ++i) right &= out[static_cast<size_t>(i)] == 255 - i + 3;
  expect(right, "__syncthreads");

  const std::string text = error_of({.threads = 64}, [] {
    if (threadIdx.x < 32) __syncthreads();
    else __shfl_sync(kAllLanes, threadIdx.x == 40 ? (ptx::named_barrier_sync(2, 64), 0) : 0, 0);
  });
  expect(has(text, "deadlock") && has(text, "32 threads wait at __syncthreads (cuda_on_cpu_test.cc:") &&
             has(text, "31 threads wait at __shfl_sync (cuda_on_cpu_test.cc:") && has(text, "named_barrier_sync"),
         "a deadlock names its places: " + text);
  expect(has(error_of({},
                      [] {
                        if (threadIdx.x < 5) __syncwarp(0xfu);
                      }),
             "outside the mask"),
         "a lane outside the mask");
  expect(has(error_of({},
                      [] {
                        if (threadIdx.x < 16) __syncwarp();
                        else __ballot_sync(kAllLanes, true);
                      }),
             "different operations"),
         "lanes in different operations");

  const auto order = [](uint64_t seed) {
    std::vector<unsigned> came;
    cuda_on_cpu::set_seed(seed);
    cuda_on_cpu::run_grid(grid_of({.threads = 64, .blocks = 3}),
                          [&] { came.push_back(blockIdx.x * 64 + threadIdx.x); });
    return came;
  };
  expect(order(1) == order(1) && order(1) != order(2) && order(2) != order(3), "seeds decide the order");
  expect(order(5).size() == 192, "every thread runs");
  bool poisoned = true;
  run({.shared_bytes = 128}, [&] { poisoned &= std::isnan((&shared_memory<float>())[threadIdx.x]); });
  expect(poisoned, "shared memory begins as NaN");
}

void test_cp_async() {
  alignas(16) int from[256];
  for (int i = 0; i < 256; ++i) from[i] = i;
  struct Memory {
    int wide[128], pairs[64], single[32];
  };
  bool right = true, before = true, between = true;
  run({.shared_bytes = sizeof(Memory)}, [&] {
    auto& s = shared_memory<Memory>();
    const int i = static_cast<int>(threadIdx.x);
    ptx::cp_async<16>(&s.wide[4 * i], from + 4 * i, i != 7);
    ptx::cp_async_commit();
    ptx::cp_async<8>(&s.pairs[2 * i], from + 2 * i);
    ptx::cp_async<4>(&s.single[i], from + i, i != 9);
    ptx::cp_async_commit();
    before &= s.wide[4 * i] == -1 && s.pairs[2 * i] == -1;
    ptx::cp_async_wait<1>();
    between &= s.wide[4 * i + 3] == (i == 7 ? 0 : 4 * i + 3) && s.single[i] == -1;
    ptx::cp_async_wait<0>();
    right &= s.pairs[2 * i + 1] == 2 * i + 1 && s.single[i] == (i == 9 ? 0 : i);
  });
  expect(before, "cp_async lands no earlier than its wait");
  expect(between, "cp_async_wait<1> waits for all but one group");
  expect(right, "cp_async copies 4, 8 and 16 bytes, or zeros");
  expect(has(error_of({.shared_bytes = 64}, [&] { ptx::cp_async<16>(&shared_memory<char>() + 8, from); }), "aligned"),
         "cp_async to an odd place");
  expect(has(error_of({.shared_bytes = 64}, [&] { ptx::cp_async<8>(&shared_memory<char>(), from + 1); }), "aligned"),
         "cp_async from an odd place");
  expect(has(error_of({.shared_bytes = 64}, [&] { ptx::cp_async<16>(&shared_memory<char>() + 64, from); }), "outside"),
         "cp_async past the end of shared memory");
}

void test_ldmatrix() {
  // Element (row, column) of matrix i is 64 i + 8 row + column; rows lie 32 bytes apart.
  struct Memory {
    uint16_t at[32][16], back[32][8], turned[32][8];
  };
  bool straight = true, transposed = true, stored = true;
  run({.shared_bytes = sizeof(Memory)}, [&] {
    auto& s = shared_memory<Memory>();
    const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
    for (unsigned c = 0; c < 8; ++c) s.at[lane][c] = static_cast<uint16_t>(lane * 8 + c);
    __syncwarp();
    uint32_t r[4], q[4], two[2], two_turned[2];
    ptx::ldmatrix_x4(r, s.at[lane]);
    ptx::ldmatrix_x4_trans(q, s.at[lane]);
    ptx::ldmatrix_x2(two, lane < 16 ? s.at[16 + lane] : nullptr);
    ptx::ldmatrix_x2_trans(two_turned, lane < 16 ? s.at[lane] : nullptr);
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned low = 64 * i + 8 * g + 2 * t, first = 64 * i + 16 * t + g;
      straight &= r[i] == ((low + 1) << 16 | low);
      transposed &= q[i] == ((first + 8) << 16 | first);
      if (i < 2) straight &= two[i] == ((low + 129) << 16 | (low + 128)), transposed &= two_turned[i] == q[i];
    }
    ptx::stmatrix_x4(s.back[lane], r);
    ptx::stmatrix_x4_trans(s.turned[lane], r);
    __syncwarp();
    for (unsigned c = 0; c < 8; ++c) {
      stored &= s.back[lane][c] == lane * 8 + c;
      stored &= s.turned[lane][c] == lane / 8 * 64 + c * 8 + lane % 8;
    }
  });
  expect(straight, "ldmatrix");
  expect(transposed, "ldmatrix.trans");
  expect(stored, "stmatrix");
  expect(has(error_of({.shared_bytes = 1024},
                      [] {
                        uint32_t r[4];
                        ptx::ldmatrix_x4(r, &shared_memory<char>() + 8 * threadIdx.x);
                      }),
             "aligned"),
         "ldmatrix from an odd place");
}

/// Each lane builds its fragments element by element, from the tables in the PTX ISA.
template <class T>
bool mma_is_right() {
  const auto a = [](int m, int k) { return integer_at(m * 16 + k); };
  const auto b = [](int k, int n) { return integer_at(k * 8 + n + 100); };
  constexpr bool kWide = std::is_same_v<T, float>;
  bool right = true;
  run({}, [&] {
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
    uint32_t ra[4], rb[2];
    float d[4] = {1, 2, 3, 4};
    if constexpr (kWide) {
      ra[0] = ptx::to_tf32(a(g, t)), ra[1] = ptx::to_tf32(a(g + 8, t));
      ra[2] = ptx::to_tf32(a(g, t + 4)), ra[3] = ptx::to_tf32(a(g + 8, t + 4));
      rb[0] = ptx::to_tf32(b(t, g)) | 0x1fff, rb[1] = ptx::to_tf32(b(t + 4, g));
      ptx::mma_m16n8k8_tf32(d, ra, rb);
    } else {
      ra[0] = ptx::pack2<T>(a(g, 2 * t), a(g, 2 * t + 1));
      ra[1] = ptx::pack2<T>(a(g + 8, 2 * t), a(g + 8, 2 * t + 1));
      ra[2] = ptx::pack2<T>(a(g, 2 * t + 8), a(g, 2 * t + 9));
      ra[3] = ptx::pack2<T>(a(g + 8, 2 * t + 8), a(g + 8, 2 * t + 9));
      rb[0] = ptx::pack2<T>(b(2 * t, g), b(2 * t + 1, g));
      rb[1] = ptx::pack2<T>(b(2 * t + 8, g), b(2 * t + 9, g));
      ptx::mma_m16n8k16<T>(d, ra, rb);
    }
    for (int i = 0; i < 4; ++i) {
      const int m = g + i / 2 * 8, n = 2 * t + i % 2;
      float sum = static_cast<float>(i + 1);
      for (int k = 0; k < (kWide ? 8 : 16); ++k) sum += a(m, k) * b(k, n);
      right &= d[i] == sum;
    }
  });
  return right;
}

void test_mma() {
  expect(mma_is_right<BFloat16>(), "mma.m16n8k16 of bfloat16");
  expect(mma_is_right<Float16>(), "mma.m16n8k16 of float16");
  expect(mma_is_right<float>(), "mma.m16n8k8 of TF32");
  bool right = true;
  run({}, [&] {
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
    double d[2] = {5, 6};
    ptx::mma_m8n8k4_f64(d, integer_at(g * 4 + t), integer_at(t * 8 + g + 50));
    for (int i = 0; i < 2; ++i) {
      double sum = 5 + i;
      for (int k = 0; k < 4; ++k) sum += double{integer_at(g * 4 + k)} * integer_at(k * 8 + 2 * t + i + 50);
      right &= d[i] == sum;
    }
  });
  expect(right, "mma.m8n8k4 of float64");
}

void test_rounding() {
  const auto rounds = [](float x, float to) { return ptx::to_tf32(x) == bits_of(to); };
  expect(rounds(1.0f, 1.0f) && rounds(1 + 0x1p-11f, 1 + 0x1p-10f) && rounds(-1 - 0x1p-11f, -1 - 0x1p-10f),
         "to_tf32 rounds halves away from zero");
  expect(rounds(1 + 0x1p-11f - 0x1p-23f, 1) && rounds(1 + 0x1.8p-10f, 1 + 0x1p-9f) && rounds(0x1.fffp0f, 2),
         "to_tf32 rounds to nearest");
  const float infinity = std::numeric_limits<float>::infinity();
  expect(rounds(infinity, infinity) && std::isnan(float_of(ptx::to_tf32(NAN))), "to_tf32 of what is not finite");
  expect(ptx::pack2<BFloat16>(1, 2) == 0x40003f80 && ptx::pack2<Float16>(1, 2) == 0x40003c00, "pack2, low half first");
  expect(ptx::pack2<BFloat16>(1 + 0x1p-8f, 1 + 0x3p-8f) == 0x3f823f80 && ptx::pack2<Float16>(65520, 1) == 0x3c007c00,
         "pack2 rounds to even");
  const uint32_t b = ptx::max2_nan<BFloat16>(ptx::pack2<BFloat16>(-1, NAN), ptx::pack2<BFloat16>(-2, 3));
  const uint32_t f = ptx::max2_nan<Float16>(ptx::pack2<Float16>(1, -0.0f), ptx::pack2<Float16>(2, 0.0f));
  expect(b == 0x7fffbf80 && f == ptx::pack2<Float16>(2, 0), "max2_nan, half by half, and of NaN");
}

}  // namespace

void expect(bool holds, const std::string& what) {
  ++(holds ? passed : failed);
  if (!holds) std::printf("failed: %s\n", what.c_str());
}

void run(const Shape& shape, const std::function<void()>& kernel) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    cuda_on_cpu::set_seed(static_cast<uint64_t>(seed));
    cuda_on_cpu::run_grid(grid_of(shape), kernel);
  }
}

std::string error_of(const Shape& shape, const std::function<void()>& kernel) {
  try {
    run(shape, kernel);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace fastconv

int main() {
  using namespace fastconv;
  for (const auto& test : {test_scheduler, test_shuffles, test_cp_async, test_ldmatrix, test_mma, test_rounding,
                           test_barriers, test_bulk_copies, test_wgmma, test_pipeline}) {
    try {
      test();
    } catch (const std::exception& error) {
      expect(false, error.what());
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
