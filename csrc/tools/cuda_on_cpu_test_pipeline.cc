// Bulk copies and wgmma together, as kernels use them.

#include <vector>

#include "tools/cuda_on_cpu_test.h"

namespace fastconv {

/// d = a b, 64 x 64 x depth: a producer warp loads slots of 64 columns ahead, a warpgroup multiplies, as kernels do it.
void test_pipeline() {
  constexpr int kDepth = 448, kSlots = 3;
  struct Slots {
    alignas(1024) char a[kSlots][64 * 128], b[kSlots][64 * 128];
    uint64_t full[kSlots], empty[kSlots];
  };
  std::vector<BFloat16> a(64 * kDepth), b(64 * kDepth);
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = narrow_to<BFloat16>(integer_at(static_cast<int>(i)));
    b[i] = narrow_to<BFloat16>(integer_at(static_cast<int>(i) + 77));
  }
  TiledTensor tensor;
  tensor.data = a.data();
  tensor.rank = 2;
  tensor.extent[0] = kDepth, tensor.extent[1] = 64, tensor.stride[1] = kDepth * 2;
  tensor.box[0] = tensor.box[1] = 64;
  tensor.swizzle = Swizzle::k128;
  const TensorMap map_a = tensor_map(tensor);
  tensor.data = b.data();
  const TensorMap map_b = tensor_map(tensor);
  std::vector<float> out(64 * 64);
  run({.threads = 160, .shared_bytes = sizeof(Slots)}, [&] {
    auto& s = shared_memory<Slots>();
    if (threadIdx.x == 0) {
      for (int i = 0; i < kSlots; ++i) ptx::mbarrier_init(&s.full[i], 1), ptx::mbarrier_init(&s.empty[i], 128);
      ptx::fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x >= 128) {
      if (!ptx::elect_one()) return;
      for (int i = 0; i < kDepth / 64; ++i) {
        const int slot = i % kSlots, round = i / kSlots;
        ptx::mbarrier_wait(&s.empty[slot], (round & 1) ^ 1);
        ptx::mbarrier_arrive_expect_tx(&s.full[slot], 2 * 64 * 128);
        ptx::tma_load(s.a[slot], map_a, {i * 64, 0}, &s.full[slot]);
        ptx::tma_load(s.b[slot], map_b, {i * 64, 0}, &s.full[slot]);
      }
      return;
    }
    float d[32];
    for (int i = 0; i < kDepth / 64; ++i) {
      const int slot = i % kSlots, round = i / kSlots;
      ptx::mbarrier_wait(&s.full[slot], round & 1);
      const uint64_t of_a = ptx::wgmma_operand(s.a[slot], 16, 1024, Swizzle::k128);
      const uint64_t of_b = ptx::wgmma_operand(s.b[slot], 16, 1024, Swizzle::k128);
      ptx::wgmma_fence();
      for (unsigned k = 0; k < 4; ++k)
        ptx::wgmma_m64k16<BFloat16, 64>(d, ptx::advance(of_a, 32 * k), ptx::advance(of_b, 32 * k), i > 0 || k > 0);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();  // the products of the slot before are done
      if (i > 0) ptx::mbarrier_arrive(&s.empty[(i - 1) % kSlots]);
    }
    ptx::wgmma_wait<0>();
    const unsigned row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    for (unsigned i = 0; i < 32; ++i) out[(row + i / 2 % 2 * 8) * 64 + i / 4 * 8 + column + i % 2] = d[i];
  });
  bool all = true;
  for (size_t m = 0; m < 64; ++m)
    for (size_t n = 0; n < 64; ++n) {
      float sum = 0;
      for (size_t k = 0; k < kDepth; ++k) sum += to_float(a[m * kDepth + k]) * to_float(b[n * kDepth + k]);
      all &= out[m * 64 + n] == sum;
    }
  expect(all, "a pipeline of bulk copies and wgmma");
}

}  // namespace fastconv
