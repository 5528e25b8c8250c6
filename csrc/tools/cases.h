// What kernel_test, kernel_bench and kernel_bench_cuda share: shape files and operands.
#pragma once

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/half.h"
#include "tools/rows.h"

namespace fastconv {

struct Case {
  std::string name;
  ConvProblem problem;
};

/// Reads "name  problem" lines; # begins a comment. Throws on a file or a line that cannot be read.
inline std::vector<Case> read_cases(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open the shape file '" + path + "'");
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    Case one;
    std::string text;
    if (!(words >> one.name)) continue;
    if (!(words >> text)) text = one.name;
    one.problem = decode(text);
    cases.push_back(one);
  }
  return cases;
}

/// Adds the problems of a word of the command line: those of a shape file, or the one that it encodes.
inline void add_cases(const std::string& word, std::vector<Case>& cases) {
  if (word.find(".txt") == std::string::npos) cases.push_back({word, decode(word)});
  else
    for (const Case& one : read_cases(word)) cases.push_back(one);
}

/// A buffer whose last byte is the last byte of its allocation, so that AddressSanitizer sees a read past the end. With
/// `unaligned` its first byte lies anywhere.
class Bytes {
 public:
  explicit Bytes(size_t size, bool unaligned = false) : size_(size) {
    const size_t before = unaligned ? (64 - size % 64) % 64 : 0;
    memory_ = static_cast<char*>(allocate(256, before + size));
    data_ = memory_ + before;
    std::memset(memory_, 0xff, before + size);  // NaN in every floating type
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  ~Bytes() { release(memory_); }
  void* data() { return data_; }
  size_t size() const { return size_; }

 private:
  size_t size_;
  char* memory_;
  char* data_;
};

inline void set(void* data, DType dtype, int64_t index, double value) {
  switch (dtype) {
    case DType::kFloat32: static_cast<float*>(data)[index] = static_cast<float>(value); break;
    case DType::kFloat64: static_cast<double*>(data)[index] = value; break;
    case DType::kBFloat16: from_float(static_cast<float>(value), static_cast<BFloat16*>(data) + index); break;
    case DType::kFloat16: from_float(static_cast<float>(value), static_cast<Float16*>(data) + index); break;
  }
}

inline double get(const void* data, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::kFloat32: return static_cast<const float*>(data)[index];
    case DType::kFloat64: return static_cast<const double*>(data)[index];
    case DType::kBFloat16: return to_float(static_cast<const BFloat16*>(data)[index]);
    case DType::kFloat16: return to_float(static_cast<const Float16*>(data)[index]);
  }
  return 0;
}

/// A small generator with a seed, the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t next() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return state_;
  }
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1));
  }
  double real() { return static_cast<double>(next() >> 11) * 0x1p-52 - 1; }

 private:
  uint64_t state_;
};

/// Reals in -1 ... 1 for x, w and y (or their gradients).
struct Operands {
  explicit Operands(const ConvProblem& p)
      : x(bytes(p, p.x_elements())), w(bytes(p, p.w_elements())), y(bytes(p, p.y_elements())) {
    Random random(1);
    for (auto [data, count] :
         {std::pair{x.data(), p.x_elements()}, {w.data(), p.w_elements()}, {y.data(), p.y_elements()}})
      for (int64_t i = 0; i < count; ++i) set(data, p.dtype, i, random.real());
  }
  static size_t bytes(const ConvProblem& p, int64_t count) {
    return static_cast<size_t>(count * element_size(p.dtype));
  }
  Bytes x, w, y;
};

}  // namespace fastconv
