// wgmma: every swizzle and order of its operands, chains, groups.

#include <cmath>

#include "tools/cuda_on_cpu_test.h"

namespace fastconv {
namespace {

using ptx::Major;

constexpr int kK = 64;

struct Memory {
  alignas(1024) char a[64 * kK * 2];
  alignas(1024) char b[256 * kK * 2];
};
constexpr Shape kGroup{.threads = 128, .shared_bytes = sizeof(Memory)};

float a_at(int m, int k) { return integer_at(m * kK + k); }
float b_at(int n, int k) { return integer_at(n * kK + k + 1000); }

/// An operand of `extent` rows (m or n) and kK columns as a kernel would lay it out, and how to describe it. Swizzled:
/// a panel is as wide as the span, along k or along mn; panels follow one another.
struct Operand {
  int extent;
  Major major;
  Swizzle swizzle;

  int span() const { return swizzle == Swizzle::kNone ? 16 : span_of(swizzle); }
  int per_span() const { return span() / 2; }
  /// Byte of element (mn, k).
  int place(int mn, int k) const {
    const int along = major == Major::kK ? k : mn, across = major == Major::kK ? mn : k;
    const int rows = major == Major::kK ? extent : kK, chunks = span() / 16;
    const int turn = chunks == 8 ? across % 8 : chunks == 4 ? across / 2 % 4 : chunks == 2 ? across / 4 % 2 : 0;
    const int chunk = along % per_span() / 8 ^ turn;
    return along / per_span() * rows * span() + across * span() + chunk * 16 + along % 8 * 2;
  }
  /// Describes the 16 columns from k.
  uint64_t describe(const char* memory, int k) const {
    const unsigned panel = static_cast<unsigned>((major == Major::kK ? extent : kK) * span());
    const unsigned eight = static_cast<unsigned>(8 * span());
    const char* start = memory;
    if (major == Major::kMN) start += k * span();
    else start += k / per_span() * static_cast<int>(panel) + k % per_span() * 2;
    // Unswizzled, "leading" is the way along k; "stride" that along mn. Swizzled MN-major, the other way round.
    if (swizzle == Swizzle::kNone && major == Major::kMN) return ptx::wgmma_operand(start, eight, panel, swizzle);
    return ptx::wgmma_operand(start, panel, eight, swizzle);
  }
};

template <class T, class At>
void fill(char* memory, const Operand& operand, At&& at) {
  for (int i = static_cast<int>(threadIdx.x); i < operand.extent * kK; i += 128) {
    const T element = narrow_to<T>(at(i / kK, i % kK));
    std::memcpy(memory + operand.place(i / kK, i % kK), &element, 2);
  }
}

/// Whether a thread's d is a b, of `depth` columns, plus `more`.
template <int kN>
bool right(const float (&d)[kN / 2], int depth, float more = 0) {
  const int warp = static_cast<int>(threadIdx.x / 32), g = static_cast<int>(threadIdx.x % 32 / 4);
  for (int i = 0; i < kN / 2; ++i) {
    const int m = warp * 16 + g + i / 2 % 2 * 8, n = i / 4 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + i % 2;
    float sum = more;
    for (int k = 0; k < depth; ++k) sum += a_at(m, k) * b_at(n, k);
    if (d[i] != sum) return false;
  }
  return true;
}

/// Without `shown`, the operands are never fenced.
template <class T, int kN, Major kMajorA, Major kMajorB>
bool product(Swizzle of_a, Swizzle of_b, bool shown = true) {
  const Operand a{64, kMajorA, of_a}, b{kN, kMajorB, of_b};
  bool all = true, undefined = true;
  run(kGroup, [&] {
    auto& s = shared_memory<Memory>();
    fill<T>(s.a, a, a_at), fill<T>(s.b, b, b_at);
    if (shown) ptx::fence_proxy_async();
    __syncthreads();
    float d[kN / 2];
    for (float& x : d) x = 3;
    ptx::wgmma_fence();
    for (int k = 0; k < kK; k += 16)
      ptx::wgmma_m64k16<T, kN, kMajorA, kMajorB>(d, a.describe(s.a, k), b.describe(s.b, k), k > 0);
    ptx::wgmma_commit();
    undefined &= std::isnan(d[1]);
    ptx::wgmma_wait<0>();
    ptx::wgmma_keep_order(d);
    all &= right<kN>(d, kK);
  });
  return all && undefined;
}

template <Major kMajorA, Major kMajorB>
void test_layouts(const std::string& name) {
  for (const Swizzle swizzle : {Swizzle::kNone, Swizzle::k32, Swizzle::k64, Swizzle::k128}) {
    const std::string text = name + ", swizzle " + std::to_string(span_of(swizzle));
    expect(product<BFloat16, 64, kMajorA, kMajorB>(swizzle, Swizzle::k128), "wgmma, a " + text);
    expect(product<Float16, 64, kMajorA, kMajorB>(Swizzle::k128, swizzle), "wgmma, b " + text);
  }
}

/// One element of each operand, at bytes worked out by hand: rows (k) of 128 bytes, 64 of them a panel of 64 columns,
/// chunks of 16 bytes exchanged by k % 8. a: m 9, k 11 is row 11, chunk 1 ^ 3, element 1. b: n 130, k 11 is panel 2,
/// row 11, chunk 0 ^ 3, element 2.
void test_mn_major_by_hand() {
  int others = 0;
  float found = 0;
  run(kGroup, [&] {
    auto& s = shared_memory<Memory>();
    const auto put = [](char* place, float value) {
      const BFloat16 element = narrow_to<BFloat16>(value);
      std::memcpy(place, &element, 2);
    };
    for (size_t i = threadIdx.x; i < sizeof(Memory) / 2; i += 128) put(reinterpret_cast<char*>(&s) + 2 * i, 0);
    __syncthreads();
    if (threadIdx.x == 0) put(s.a + 11 * 128 + 2 * 16 + 2, 2), put(s.b + 2 * 8192 + 11 * 128 + 3 * 16 + 4, 3);
    ptx::fence_proxy_async();
    __syncthreads();
    float d[96];
    ptx::wgmma_fence();
    for (int k = 0; k < kK; k += 16) {
      const uint64_t a = ptx::wgmma_operand(s.a + k * 128, 8192, 1024, Swizzle::k128);
      const uint64_t b = ptx::wgmma_operand(s.b + k * 128, 8192, 1024, Swizzle::k128);
      ptx::wgmma_m64k16<BFloat16, 192, Major::kMN, Major::kMN>(d, a, b, k > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    // d[9][130] is of thread 5: g = 1, t = 1, and 4 * 16 + 2 of its sums.
    for (int i = 0; i < 96; ++i) {
      if (threadIdx.x == 5 && i == 66) found = d[i];
      else others += d[i] != 0;
    }
  });
  expect(found == 6 && others == 0, "wgmma of MN-major operands, three panels of columns");
}

/// Rows of an operand that overlap those of its neighbours: the 8 x 8 pixels of an image that a tap reaches, where the
/// image lies as two planes of 8 channels.
void test_shifted_image() {
  constexpr int kWide = 11, kHigh = 10, kPlane = kWide * kHigh * 16, kDown = 2, kRight = 3;
  const Operand a{64, Major::kK, Swizzle::kNone};
  bool all = true;
  run(kGroup, [&] {
    auto& s = shared_memory<Memory>();
    fill<BFloat16>(s.a, a, a_at);
    for (int i = static_cast<int>(threadIdx.x); i < kWide * kHigh * 16; i += 128) {
      const BFloat16 element = narrow_to<BFloat16>(b_at(i / 16, i % 16));
      std::memcpy(s.b + i % 16 / 8 * kPlane + i / 16 * 16 + i % 8 * 2, &element, 2);
    }
    ptx::fence_proxy_async();
    __syncthreads();
    float d[32];
    ptx::wgmma_fence();
    const uint64_t image = ptx::wgmma_operand(s.b, kPlane, kWide * 16, Swizzle::kNone);
    ptx::wgmma_m64k16<BFloat16, 64>(d, a.describe(s.a, 0), ptx::advance(image, (kDown * kWide + kRight) * 16), false);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    const int row = static_cast<int>(threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4);
    for (int i = 0; i < 32; ++i) {
      const int m = row + i / 2 % 2 * 8, n = i / 4 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + i % 2;
      const int pixel = (n / 8 + kDown) * kWide + n % 8 + kRight;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a_at(m, k) * b_at(pixel, k);
      all &= d[i] == sum;
    }
  });
  expect(all, "wgmma, b unswizzled, rows of an image and a tap further on");
}

void test_registers_and_groups() {
  const Operand b{96, Major::kMN, Swizzle::k64};
  bool one = true, both = true, added = true;
  run(kGroup, [&] {
    auto& s = shared_memory<Memory>();
    fill<BFloat16>(s.b, b, b_at);
    ptx::fence_proxy_async();
    __syncthreads();
    const int row = static_cast<int>(threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4),
              t = static_cast<int>(threadIdx.x % 4);
    uint32_t a[2][4];
    for (int step = 0; step < 2; ++step)
      for (int i = 0; i < 4; ++i) {
        const int m = row + i % 2 * 8, k = step * 16 + 2 * t + i / 2 * 8;
        a[step][i] = ptx::pack2<BFloat16>(a_at(m, k), a_at(m, k + 1));
      }
    float d[48], e[48];
    for (float& x : e) x = 3;
    ptx::wgmma_fence();
    ptx::wgmma_m64k16<BFloat16, 96, Major::kMN>(d, a[0], b.describe(s.b, 0), false);
    ptx::wgmma_commit();
    for (int step = 0; step < 2; ++step)
      ptx::wgmma_m64k16<BFloat16, 96, Major::kMN>(e, a[step], b.describe(s.b, 16 * step), true);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    one &= right<96>(d, 16) && std::isnan(e[0]);
    ptx::wgmma_wait<0>();
    both &= right<96>(e, 32, 3);
    ptx::wgmma_fence();
    ptx::wgmma_m64k16<BFloat16, 96, Major::kMN>(d, a[1], b.describe(s.b, 16), true);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    added &= right<96>(d, 32);
  });
  expect(one, "wgmma_wait<1> waits for all but one group");
  expect(both, "wgmma with a in registers, adding to d");
  expect(added, "wgmma goes on with a d that was read");
}

void test_mistakes() {
  const auto mistake = [](bool fence, bool differ) {
    return error_of(kGroup, [&] {
      auto& s = shared_memory<Memory>();
      const Operand operand{64, Major::kK, Swizzle::k128};
      fill<BFloat16>(s.a, operand, a_at);
      __syncthreads();
      float d[32] = {};
      if (fence) ptx::wgmma_fence();
      const uint64_t a = operand.describe(s.a, 0);
      ptx::wgmma_m64k16<BFloat16, 64>(d, a, differ && threadIdx.x == 77 ? ptx::advance(a, 32) : a, true);
      ptx::wgmma_commit();
      ptx::wgmma_wait<0>();
    });
  };
  expect(mistake(true, false).empty(), "a product");
  expect(has(mistake(false, false), "no wgmma_fence"), "a product without a fence");
  expect(has(mistake(true, true), "different products"), "threads that ask for different products");
}

}  // namespace

void test_wgmma() {
  test_layouts<Major::kK, Major::kK>("K-major");
  test_layouts<Major::kMN, Major::kMN>("MN-major");
  expect(product<BFloat16, 8, Major::kK, Major::kK>(Swizzle::k128, Swizzle::k128), "wgmma of 8 columns");
  expect(product<BFloat16, 256, Major::kMN, Major::kK>(Swizzle::k128, Swizzle::k64), "wgmma of 256 columns");
  expect(product<Float16, 192, Major::kMN, Major::kMN>(Swizzle::k128, Swizzle::k128), "wgmma of 192 columns");
  test_mn_major_by_hand();
  test_shifted_image();
  test_registers_and_groups();
  test_mistakes();
  expect(!product<BFloat16, 64, Major::kK, Major::kK>(Swizzle::k128, Swizzle::k128, false),
         "wgmma without fence_proxy_async reads what was there before");
}

}  // namespace fastconv
