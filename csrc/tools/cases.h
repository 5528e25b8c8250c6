// What kernel_test, kernel_bench and kernel_bench_cuda share: shape files, and operands by a family's own list.
#pragma once

#include <array>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <sstream>
#include <vector>

#include "core/half.h"
#include "tools/device.h"

namespace fastconv {

/// A named problem as text: which family's it is, the families say.
struct Line {
  std::string name, text;
};

/// Reads "name  problem" lines; # begins a comment. Throws on a file that cannot be read.
inline std::vector<Line> read_lines(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open the shape file '" + path + "'");
  std::vector<Line> lines;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    Line one;
    if (!(words >> one.name)) continue;
    if (!(words >> one.text)) one.text = one.name;
    lines.push_back(one);
  }
  return lines;
}

/// Adds the problems of a word of the command line: those of a shape file, or the one that it encodes.
inline void add_lines(const std::string& word, std::vector<Line>& lines) {
  if (word.find(".txt") == std::string::npos) lines.push_back({word, word});
  else
    for (const Line& one : read_lines(word)) lines.push_back(one);
}

template <class F>
struct Case {
  std::string name;
  typename F::Problem problem;
};

/// The family's own of the lines. Throws where one cannot be read.
template <class F>
std::vector<Case<F>> cases_of(const std::vector<Line>& lines) {
  std::vector<Case<F>> cases;
  for (const Line& line : lines)
    if (F::claims(line.text)) cases.push_back({line.name, F::decode(line.text)});
  return cases;
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
  void* data() const { return data_; }
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
    case DType::kUInt8: static_cast<uint8_t*>(data)[index] = static_cast<uint8_t>(static_cast<int>(value)); break;
    case DType::kInt8: static_cast<int8_t*>(data)[index] = static_cast<int8_t>(static_cast<int>(value)); break;
  }
}

inline double get(const void* data, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::kFloat32: return static_cast<const float*>(data)[index];
    case DType::kFloat64: return static_cast<const double*>(data)[index];
    case DType::kBFloat16: return to_float(static_cast<const BFloat16*>(data)[index]);
    case DType::kFloat16: return to_float(static_cast<const Float16*>(data)[index]);
    case DType::kUInt8: return static_cast<const uint8_t*>(data)[index];
    case DType::kInt8: return static_cast<const int8_t*>(data)[index];
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

template <class F>
int64_t elements_of(const Operand<F>& operand, const typename F::Problem& p) {
  switch (operand.kind) {
    case OperandKind::kActivation:
    case OperandKind::kIndex: return F::extents(p, operand.side).elements();
    case OperandKind::kWeight: return F::weight_extents(p).elements();
    case OperandKind::kChannels: return F::extents(p, operand.side).channels;
  }
  return 0;
}

template <class F>
DType dtype_of(const Operand<F>& operand, const typename F::Problem& p) {
  if (operand.kind != OperandKind::kChannels || p.dtype == DType::kFloat64) return p.dtype;
  return DType::kFloat32;
}

/// Memory for the operands of one call, NaN until it is filled; optional ones where `with_optional`.
template <class F>
class Operands {
 public:
  Operands(const typename F::Problem& p, Direction direction, bool with_optional, bool unaligned = false)
      : problem_(p), list_(F::operands(direction)) {
    for (const Operand<F>& operand : list_) {
      const Presence presence = F::presence(operand, p);
      const bool is_left_out = presence == Presence::kNever || (presence == Presence::kAsked && !with_optional);
      const int64_t count = is_left_out ? -1 : elements_of(operand, p);
      const bool is_index = operand.kind == OperandKind::kIndex;
      const int64_t element = is_index ? element_of(operand, p) : element_size(fastconv::dtype_of(operand, p));
      counts_.push_back(count);
      memory_.emplace_back(count < 0 ? 0 : static_cast<size_t>(count * element), unaligned && !is_index);
    }
  }
  size_t size() const { return list_.size(); }
  const Operand<F>& operand(size_t i) const { return list_[i]; }
  /// Elements, or -1 of an operand that is left out.
  int64_t count(size_t i) const { return counts_[i]; }
  DType dtype(size_t i) const { return fastconv::dtype_of(list_[i], problem_); }
  void* data(size_t i) const { return memory_[i].data(); }
  size_t bytes(size_t i) const { return memory_[i].size(); }
  /// The operand that the direction computes.
  size_t out() const {
    size_t i = 0;
    while (!list_[i].written) ++i;
    return i;
  }
  bool is_index(size_t i) const { return list_[i].kind == OperandKind::kIndex; }
  /// Whether the call reads numbers there.
  bool is_read(size_t i) const { return !list_[i].written && !is_index(i); }
  /// Sets every element of what is read; indices to some that there may be.
  void fill(const std::function<double()>& value) {
    for (size_t i = 0; i < size(); ++i)
      for (int64_t j = 0; j < counts_[i] && !list_[i].written; ++j)
        if (is_index(i)) set_index(i, j, F::any_index(problem_, j, static_cast<uint64_t>(j) * 2654435761u));
        else set(data(i), dtype(i), j, value());
  }
  /// The call's arguments; a weight lies as kcrs, or as krsc for kNhwc.
  typename F::Args args(Layout weight = Layout::kNchw) const {
    typename F::Args args;
    for (size_t i = 0; i < size(); ++i)
      if (list_[i].kind == OperandKind::kWeight)
        F::set_weight(args, data(i), dense_weight(F::weight_extents(problem_), weight), problem_);
      else if (counts_[i] >= 0) *list_[i].at(args) = data(i);
    return args;
  }

 private:
  void set_index(size_t i, int64_t at, int64_t index) {
    if (F::index_type(problem_) == IndexType::kInt64) static_cast<int64_t*>(data(i))[at] = index;
    else static_cast<uint8_t*>(data(i))[at] = static_cast<uint8_t>(index);
  }

  typename F::Problem problem_;
  std::span<const Operand<F>> list_;
  std::vector<int64_t> counts_;
  std::deque<Bytes> memory_;
};

}  // namespace fastconv
