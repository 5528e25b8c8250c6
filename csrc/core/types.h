// The words that every family's problems, rows and calls are made of, and their names in text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string>

namespace fastconv {

/// Of elements; whole numbers in families whose text says so (core/text.h).
enum class DType : int8_t { kFloat32, kFloat64, kBFloat16, kFloat16, kUInt8, kInt8 };
enum class Layout : int8_t { kNchw, kNhwc };  // of activations; with a depth axis NCDHW and NDHWC
enum class Direction : int8_t { kFprop, kDgrad, kWgrad };
/// What a kernel's sums are worth; `fastconv/testing/tolerance.py` derives the bounds.
enum class Numerics : int8_t { kExact, kWinogradF2, kWinogradF4, kTF32 };
/// How far the choice may go from the plain sums: kExact takes no Winograd and no TF32; kHigh takes Winograd where its
/// error bound is inside the documented tolerance; kFast takes it wherever it is fastest.
enum class Precision : int8_t { kExact, kHigh, kFast };
enum class Activation : int8_t { kNone, kRelu, kRelu6, kHardSwish, kSilu, kSigmoid };

/// The names of an enumeration's values, in their order: the one place that has them.
template <class Enum>
struct Names;
#define FASTCONV_NAMES(Enum, ...)                        \
  template <>                                            \
  struct Names<Enum> {                                   \
    static constexpr const char* kAll[] = {__VA_ARGS__}; \
    static constexpr size_t kCount = std::size(kAll);    \
  }
FASTCONV_NAMES(DType, "f32", "f64", "bf16", "f16", "uint8", "int8");
FASTCONV_NAMES(Layout, "nchw", "nhwc");
FASTCONV_NAMES(Direction, "fprop", "dgrad", "wgrad");
FASTCONV_NAMES(Numerics, "exact", "winograd_f2", "winograd_f4", "tf32");
FASTCONV_NAMES(Precision, "exact", "high", "fast");
FASTCONV_NAMES(Activation, "none", "relu", "relu6", "hardswish", "silu", "sigmoid");

template <class Enum>
constexpr const char* name_of(Enum value) {
  const auto index = static_cast<size_t>(value);
  return index < Names<Enum>::kCount ? Names<Enum>::kAll[index] : "?";
}

/// The value of that name, into `value`; false where there is none.
template <class Enum>
bool value_named(const std::string& name, Enum* value) {
  for (size_t i = 0; i < Names<Enum>::kCount; ++i)
    if (name == Names<Enum>::kAll[i]) {
      *value = static_cast<Enum>(i);
      return true;
    }
  return false;
}

/// The value of that name, which was given for `argument`. Throws std::invalid_argument with the names there are.
template <class Enum>
Enum value_of(const char* argument, const std::string& name) {
  Enum value;
  if (value_named(name, &value)) return value;
  std::string all;
  for (const char* known : Names<Enum>::kAll) all += (all.empty() ? "'" : ", '") + std::string(known) + "'";
  throw std::invalid_argument(std::string(argument) + " is '" + name + "'; it must be one of " + all);
}

constexpr int64_t element_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return 4;
    case DType::kFloat64: return 8;
    case DType::kBFloat16: return 2;
    case DType::kFloat16: return 2;
    case DType::kUInt8:
    case DType::kInt8: return 1;
  }
  return 0;
}
constexpr bool is_integer(DType dtype) { return dtype == DType::kUInt8 || dtype == DType::kInt8; }

/// Number of outputs along an axis padded by `pad` on both sides; the one place that knows the formula.
constexpr int64_t output_extent(int64_t input, int64_t filter, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t span = input + 2 * pad - (dilation * (filter - 1) + 1);
  return span < 0 ? 0 : span / stride + 1;
}
static_assert(output_extent(224, 7, 2, 3, 1) == 112);
static_assert(output_extent(28, 3, 1, 2, 2) == 28);

}  // namespace fastconv
