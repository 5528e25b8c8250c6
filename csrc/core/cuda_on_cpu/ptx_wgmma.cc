#include "core/cuda/ptx_wgmma.h"

#include <limits>
#include <map>
#include <memory>

namespace fastconv::cuda_on_cpu {
namespace {

constexpr unsigned kGroup = 4 * kWarp;  // threads of a warpgroup
constexpr int kM = 64, kDepth = 16;

/// The sums of one chain of products into the same d: 64 rows.
struct Sums {
  int n;
  std::vector<float> at;
  explicit Sums(int columns) : n(columns), at(static_cast<size_t>(kM * columns)) {}
};

struct Product {
  WgmmaCall call;
  Where where;
  std::shared_ptr<Sums> sums;
  unsigned arrived = 0;
  bool done = false;
  float a[kM][kDepth];  // of registers
};

/// Where element i of a thread's d lies in the sums.
size_t place_of(unsigned thread, int i, int n) {
  const int row = static_cast<int>(thread / kWarp * 16 + thread % kWarp / 4) + i / 2 % 2 * 8;
  const int column = i / 4 * 8 + static_cast<int>(thread % 4) * 2 + i % 2;
  return static_cast<size_t>(row * n + column);
}

}  // namespace

/// What the threads of a warpgroup have asked for, in order.
struct WarpGroup {
  std::vector<std::shared_ptr<Product>> products;
  size_t next = 0;  // that has not been done
};

/// A thread's own view of it.
struct WgmmaGroups {
  size_t asked = 0;  // products
  std::vector<std::shared_ptr<Product>> open_group;
  std::vector<std::vector<std::shared_ptr<Product>>> groups;
  /// d's that are under way, and their sums.
  std::map<float*, std::shared_ptr<Sums>> sums;
  bool fenced = false;
};

namespace {

WgmmaGroups& own_groups() {
  auto& groups = current().wgmma;
  if (!groups) groups = std::make_shared<WgmmaGroups>();
  return *groups;
}

WarpGroup& own_warp_group() {
  auto& group = current().block->warp_groups[current().linear / kGroup];
  if (!group) group = std::make_shared<WarpGroup>();
  return *group;
}

/// The fields of an operand's description.
struct Operand {
  size_t start, leading, stride;
  unsigned span;  // of the swizzle, 16 without one

  Operand(uint64_t bits, const Where& where)
      : start((bits & 0x3fff) << 4),
        leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4),
        span(bits >> 62 ? 256u >> (bits >> 62) : 16u) {
    if (bits >> 49 & 7) fail("an operand with a base offset", where);
  }

  /// Where element (mn, k) lies, counted from the beginning of the block's shared memory.
  size_t place(size_t mn, size_t k, bool mn_major) const {
    size_t offset;
    if (!mn_major) {
      const size_t chunk = k / 8 * (span == 16 ? leading : 16);
      offset = mn % 8 * span + mn / 8 * stride + chunk + k % 8 * 2;
    } else if (span == 16) {
      offset = k % 8 * 16 + k / 8 * leading + mn / 8 * stride + mn % 8 * 2;
    } else {
      const size_t chunk = mn / 8, chunks = span / 16;
      offset = k % 8 * span + k / 8 * stride + chunk / chunks * leading + chunk % chunks * 16 + mn % 8 * 2;
    }
    const size_t at = start + offset;
    return at ^ (at >> 7 & (span / 16 - 1)) << 4;
  }
};

float read_element(Block& block, const Operand& operand, size_t mn, size_t k, bool mn_major, bool bfloat16,
                   const Where& where) {
  const size_t place = operand.place(mn, k, mn_major);
  if (!in_shared(block, block.shared + place, 2)) fail("an operand of wgmma beyond the block's shared memory", where);
  uint16_t bits;
  std::memcpy(&bits, async_view(block) + place, 2);
  return bfloat16 ? to_float(BFloat16{bits}) : to_float(Float16{bits});
}

void multiply(Block& block, Product& product) {
  const WgmmaCall& call = product.call;
  const Where& where = product.where;
  Sums& sums = *product.sums;
  if (!call.a_registers) {
    const Operand a(call.a, where);
    for (size_t m = 0; m < kM; ++m)
      for (size_t k = 0; k < kDepth; ++k)
        product.a[m][k] = read_element(block, a, m, k, call.a_mn_major, call.bfloat16, where);
  }
  const Operand operand(call.b, where);
  const size_t n = static_cast<size_t>(call.n);
  std::vector<float> b(kDepth * n);
  for (size_t k = 0; k < kDepth; ++k)
    for (size_t column = 0; column < n; ++column)
      b[k * n + column] = read_element(block, operand, column, k, call.b_mn_major, call.bfloat16, where);
  for (size_t m = 0; m < kM; ++m) {
    float* row = sums.at.data() + m * n;
    if (!call.accumulate) std::fill(row, row + n, 0.0f);
    for (size_t k = 0; k < kDepth; ++k)
      for (size_t column = 0; column < n; ++column) row[column] += product.a[m][k] * b[k * n + column];
  }
  product.done = true;
}

/// The thread's part of `a` from its registers, as mma_m16n8k16 has it.
void take_registers(Product& product, const WgmmaCall& call, unsigned thread) {
  const unsigned g = thread % kWarp / 4, t = thread % 4;
  for (unsigned i = 0; i < 4; ++i)
    for (unsigned half = 0; half < 2; ++half) {
      const auto bits = static_cast<uint16_t>(call.a_registers[i] >> 16 * half);
      product.a[thread / kWarp * 16 + g + i % 2 * 8][2 * t + half + i / 2 * 8] =
          call.bfloat16 ? to_float(BFloat16{bits}) : to_float(Float16{bits});
    }
}

bool same(const WgmmaCall& one, const WgmmaCall& other) {
  return one.n == other.n && one.bfloat16 == other.bfloat16 && one.accumulate == other.accumulate &&
         one.a_mn_major == other.a_mn_major && one.b_mn_major == other.b_mn_major && one.a == other.a &&
         one.b == other.b && !one.a_registers == !other.a_registers;
}

}  // namespace

void wgmma(const WgmmaCall& call, const Where& where) {
  in_warp(kFull, nullptr, [](void* const*, unsigned) {}, where);
  WgmmaGroups& own = own_groups();
  WarpGroup& group = own_warp_group();
  Block& block = *current().block;
  if ((current().linear / kGroup + 1) * kGroup > block.threads.size()) fail("half a warpgroup", where);
  const size_t index = own.asked++;
  if (index == group.products.size()) {
    group.products.push_back(std::make_shared<Product>());
    group.products.back()->call = call;
    group.products.back()->where = where;
  }
  const std::shared_ptr<Product> product = group.products[index];
  if (!same(product->call, call)) fail("threads of one warpgroup ask for different products", where);
  std::shared_ptr<Sums>& sums = own.sums[call.d];
  const unsigned thread = current().linear % kGroup;
  const bool first = !sums;
  if (!product->sums) product->sums = first ? std::make_shared<Sums>(call.n) : sums;
  if (first) {
    if (!own.fenced) fail("no wgmma_fence since the registers of d were free", where);
    sums = product->sums;
    for (int i = 0; i < call.n / 2; ++i) {
      sums->at[place_of(thread, i, call.n)] = call.d[i];
      call.d[i] = std::numeric_limits<float>::quiet_NaN();
    }
  } else if (sums != product->sums || sums->n != call.n) {
    fail("threads of one warpgroup ask for products into different d, or of other N than before", where);
  }
  if (call.a_registers) take_registers(*product, call, thread);
  own.open_group.push_back(product);
  if (++product->arrived < kGroup) return;
  later([&group, &block] {
    multiply(block, *group.products[group.next]);
    ++group.next;
  });
}

void wgmma_fence() { own_groups().fenced = true; }

void wgmma_commit() {
  WgmmaGroups& own = own_groups();
  own.groups.push_back(std::move(own.open_group));
  own.open_group.clear();
}

void wgmma_wait(size_t pending, const Where& where) {
  WgmmaGroups& own = own_groups();
  if (own.groups.size() <= pending) return;
  const auto end = own.groups.end() - static_cast<std::ptrdiff_t>(pending);
  wait_until(
      [&] {
        for (auto group = own.groups.begin(); group != end; ++group)
          for (const auto& product : *group)
            if (!product->done) return false;
        return true;
      },
      where);
  own.groups.erase(own.groups.begin(), end);
  // What no product is under way for has landed.
  const auto used = [&](const std::shared_ptr<Sums>& sums) {
    for (const auto& group : own.groups)
      for (const auto& product : group)
        if (product->sums == sums) return true;
    for (const auto& product : own.open_group)
      if (product->sums == sums) return true;
    return false;
  };
  for (auto entry = own.sums.begin(); entry != own.sums.end();) {
    const auto& [d, sums] = *entry;
    if (used(sums)) {
      ++entry;
      continue;
    }
    for (int i = 0; i < sums->n / 2; ++i) d[i] = sums->at[place_of(current().linear % kGroup, i, sums->n)];
    own.fenced = false;
    entry = own.sums.erase(entry);
  }
}

uint64_t wgmma_address_bits(const void* shared, const Where& where) {
  check_shared(shared, 16, 16, where);
  return static_cast<uint64_t>(static_cast<const char*>(shared) - current().block->shared) >> 4;
}

}  // namespace fastconv::cuda_on_cpu
