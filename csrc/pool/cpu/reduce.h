// What a window becomes, vector by vector of its inputs: a sum, a maximum, or a maximum and its place.
#pragma once

#include "core/cpu/epilogue.h"
#include "core/cpu/simd_half.h"
#include "core/cpu/simd_int.h"
#include "pool/pool.h"

namespace fastconv {
namespace {

/// The numbers beside a maximum: none, or the lanes' places.
struct NoIndices {};

/// What many sums are divided by.
struct Divisor {
  float number, part;
  explicit Divisor(float d) : number(d), part(1 / d) {}
};
FASTCONV_INLINE Vec quotient(Vec sum, Vec divisor) { return div(sum, divisor); }
/// The same as by division, in half its time: the quotient by the reciprocal, and its remainder's (Markstein, IBM
/// Journal of Research and Development 34, 1990). What is infinite has no remainder.
FASTCONV_INLINE Vec quotient(Vec sum, const Divisor& d) {
  const Vec part = broadcast(d.part), about = sum * part;
  const Vec mended = fma(fma(zero() - about, broadcast(d.number), sum), part, about);
  return {mended.v == mended.v ? mended.v : about.v};
}

struct Sum {
  using Index = NoIndices;
  Vec value = zero();
  FASTCONV_INLINE void see(Vec x) { value = value + x; }
  FASTCONV_INLINE void see(Vec x, Vec y) { value = value + x + y; }
  template <class D>
  FASTCONV_INLINE Vec result(const D& divisor) const {
    return quotient(value, divisor);
  }
};

FASTCONV_INLINE auto is_larger(Vec x, Vec than) { return (x.v > than.v) | (x.v != x.v); }

/// NaN where an input is. Of two that are not ordered `max` takes the second, so a NaN stays once it is there; it gets
/// there by a comparison, which two inputs share.
struct Max {
  using Index = NoIndices;
  Vec value = broadcast(-__builtin_inff());
  FASTCONV_INLINE void see(Vec x) { value = nan_of(max(x, value), x, x); }
  FASTCONV_INLINE void see(Vec x, Vec y) { value = nan_of(max(y, max(x, value)), x, y); }
  template <class D>
  FASTCONV_INLINE Vec result(const D&) const {
    return value;
  }
};

/// The first of the largest, or the last NaN.
template <class T>
struct MaxAt {
  using Index = T;
  Vec value = broadcast(-__builtin_inff());
  Ints at = {};
  FASTCONV_INLINE void begin(int32_t place) { at = Ints{} + place; }
  FASTCONV_INLINE void see_at(Vec x, int32_t place) {
    const auto larger = is_larger(x, value);
    value.v = larger ? x.v : value.v;
    at = larger ? Ints{} + place : at;
  }
  template <class D>
  FASTCONV_INLINE Vec result(const D&) const {
    return value;
  }
};

template <class Reduction>
inline constexpr bool kIsIndexed = !std::is_same_v<typename Reduction::Index, NoIndices>;

/// Of a reduction with places or without.
template <class Reduction>
FASTCONV_INLINE void see_one(Reduction& to, Vec x, int32_t place) {
  if constexpr (kIsIndexed<Reduction>) to.see_at(x, place);
  else to.see(x);
}
/// Begins with `input(0)`, and sees those up to kCount, as they go in pairs.
template <int kCount, class Reduction, class Input>
FASTCONV_INLINE void see_all(Reduction& to, const Input& input) {
  to.value = input(0);
#pragma GCC unroll 8
  for (int i = 1; i + 1 < kCount; i += 2) to.see(input(i), input(i + 1));
  if constexpr (kCount % 2 == 0) to.see(input(kCount - 1));
}

/// n lanes of memory.
template <class T>
FASTCONV_INLINE Vec load_lanes(const T* p, int64_t n) {
  return n == kLanes ? load(p) : load(p, n);
}
template <class T>
FASTCONV_INLINE void store_lanes(T* p, Vec a, int64_t n) {
  if (n == kLanes) store(p, a);
  else store(p, a, n);
}

/// n lanes of memory, past the caches where the output outgrows them (core/cpu/epilogue.h).
template <class T>
FASTCONV_INLINE void write_lanes(T* p, Vec a, int64_t n, bool streamed) {
  if constexpr (std::is_same_v<T, float>) {
    if (streamed) return stream(p, a);
  }
  store_lanes(p, a, n);
}

/// Not `e.empty()`, which where it is not inlined would be code of one instruction set in another's rows.
FASTCONV_INLINE bool wants_epilogue(const Epilogue& e) {
  return e.scale || e.shift || e.residual || e.activation != Activation::kNone;
}

/// Out of line: most calls have none, and its activations are much code.
template <class T>
__attribute__((noinline)) Vec with_epilogue(Vec result, const Epilogue& e, const T* residual, int64_t channel,
                                            int64_t n) {
  if (e.scale) result = result * load_lanes(static_cast<const float*>(e.scale) + channel, n);
  if (e.shift) result = result + load_lanes(static_cast<const float*>(e.shift) + channel, n);
  if (residual) result = result + load_lanes(residual, n);
  return activate(result, e.activation);
}

/// The channels [channel, channel + n) of the output pixel whose channels begin at element `pixel`: epilogue and store.
template <class T>
FASTCONV_INLINE void finish_channels(Vec result, const Epilogue& e, T* y, int64_t pixel, int64_t channel, int64_t n) {
  const int64_t at = pixel + channel;
  if (wants_epilogue(e))
    result = with_epilogue(result, e, e.residual ? static_cast<const T*>(e.residual) + at : nullptr, channel, n);
  store_lanes(y + at, result, n);
}

/// Calls `body(T{}, Reduction{})` with the element type and what the call reduces a window to.
template <class T, class Body>
void with_reduction(const PoolProblem& p, const PoolArgs& args, const Body& body) {
  if (p.mode == PoolMode::kAvg) body(T{}, Sum{});
  else if (!args.index) body(T{}, Max{});
  else if (p.index == IndexType::kUInt8) body(T{}, MaxAt<uint8_t>{});
  else body(T{}, MaxAt<int64_t>{});
}
/// Calls `body(T{})` with the element type of a row on vectors.
template <class Body>
void with_vector_type(DType dtype, const Body& body) {
  if (dtype == DType::kBFloat16) body(BFloat16{});
  else if (dtype == DType::kFloat16) body(Float16{});
  else body(float{});
}
template <class Body>
void with_types(const PoolProblem& p, const PoolArgs& args, const Body& body) {
  with_vector_type(p.dtype, [&](auto element) { with_reduction<decltype(element)>(p, args, body); });
}

/// The reason against a problem's elements that rows on vectors have.
inline const char* why_not_elements(const PoolProblem& p) {
  if (p.dtype == DType::kFloat64 || is_integer(p.dtype)) return "takes float32, bfloat16 and float16 only";
  if (p.D * p.H * p.W > INT32_MAX) return "takes images of less than 2^31 elements";
  return nullptr;
}

/// The reason against a problem in any layout that rows on vectors have.
inline const char* why_not_vectors(const PoolProblem& p) {
  if (p.mode != PoolMode::kAvg && p.mode != PoolMode::kMax) return "takes means and maxima only";
  return why_not_elements(p);
}

}  // namespace
}  // namespace fastconv
