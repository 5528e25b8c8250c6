// What the parts of cuda_on_cpu_test share.
#pragma once

#include <functional>
#include <string>

#include "core/cuda/launch.h"
#include "core/cuda/ptx.h"

namespace fastconv {

/// Orders of execution that every case is run in.
constexpr int kSeeds = 6;

/// Counts a check, and says what failed.
void expect(bool holds, const std::string& what);

/// How a case's kernel is started.
struct Shape {
  unsigned threads = 32, blocks = 1, cluster = 1;
  size_t shared_bytes = 0;
};

/// Runs `kernel` for every thread, once in each order.
void run(const Shape& shape, const std::function<void()>& kernel);
/// The error that a run ends with, or nothing.
std::string error_of(const Shape& shape, const std::function<void()>& kernel);
inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

template <class T>
T narrow_to(float x) {
  T out;
  from_float(x, &out);
  return out;
}
/// Small integers in no order, -7 to 7: their products and sums are exact.
inline float integer_at(int i) { return static_cast<float>((i * 37 + i / 5 * 11) % 15 - 7); }

void test_barriers();
void test_bulk_copies();
void test_wgmma();
void test_pipeline();

}  // namespace fastconv
