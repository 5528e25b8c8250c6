// Vec for any processor: 4 floats by the compiler's vector extension (SSE2, NEON, or plain code). Included by simd.h
// alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace fastconv {
namespace {

struct Vec {
  static constexpr int kLanes = 4;
#if defined(__aarch64__)
  static constexpr int kRegisters = 32;
#else
  static constexpr int kRegisters = 16;
#endif
  typedef float Lanes __attribute__((vector_size(16)));
  Lanes v;
};

inline Vec zero() { return {Vec::Lanes{0, 0, 0, 0}}; }
inline Vec broadcast(float x) { return {Vec::Lanes{x, x, x, x}}; }
inline Vec load(const float* p) {
  Vec a;
  std::memcpy(&a.v, p, sizeof(a.v));
  return a;
}
/// The first n lanes of memory, zero in the rest, which are not read. Out of line as the store below: by single lanes
/// it is more code than what most kernels do with it.
__attribute__((noinline)) Vec load(const float* p, int64_t n) {
  Vec a = zero();
  for (int64_t i = 0; i < n; ++i) a.v[i] = p[i];
  return a;
}
/// The same value, which the compiler must hold in a register: it would else read memory again at every use.
inline Vec in_register(Vec a) {
#if defined(__SSE2__)
  asm("" : "+x"(a.v));
#elif defined(__aarch64__)
  asm("" : "+w"(a.v));
#endif
  return a;
}
inline void store(float* p, Vec a) { std::memcpy(p, &a.v, sizeof(a.v)); }
__attribute__((noinline)) void store(float* p, Vec a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = a.v[i];
}
/// Where the compiler's vectors have no store past the caches, a plain one.
inline void stream(float* p, Vec a) { store(p, a); }
inline void flush_streams() {}
inline Vec add(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec sub(Vec a, Vec b) { return {a.v - b.v}; }
inline Vec mul(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec div(Vec a, Vec b) { return {a.v / b.v}; }
/// a * b + c, with one rounding or two, as the processor has it.
inline Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
/// c - a * b
inline Vec fnma(Vec a, Vec b, Vec c) { return {c.v - a.v * b.v}; }
/// The larger; b where either is NaN. So max(zero(), x) keeps a NaN of x.
inline Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
inline Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
/// `a`, but NaN where b or c is.
inline Vec nan_of(Vec a, Vec b, Vec c) {
  auto nan = (b.v != b.v) | (c.v != c.v);
  return {reinterpret_cast<Vec::Lanes>(reinterpret_cast<decltype(nan)>(a.v) | nan)};
}
inline Vec round(Vec a) {
  for (int i = 0; i < Vec::kLanes; ++i) a.v[i] = std::nearbyint(a.v[i]);
  return a;
}
inline Vec scale_by_power_of_two(Vec a, Vec n) {
  for (int i = 0; i < Vec::kLanes; ++i) a.v[i] = std::ldexp(a.v[i], std::isnan(n.v[i]) ? 0 : static_cast<int>(n.v[i]));
  return a;
}

/// Whether no lane is infinite or NaN.
inline bool all_finite(Vec a) {
  const Vec::Lanes zero_or_nan = a.v - a.v;
  const auto equal = zero_or_nan == zero_or_nan;
  return (equal[0] & equal[1] & equal[2] & equal[3]) != 0;
}

/// rows[i] lane j becomes rows[j] lane i.
inline void transpose(Vec (&rows)[4]) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < i; ++j) {
      const float upper = rows[j].v[i];
      rows[j].v[i] = rows[i].v[j];
      rows[i].v[j] = upper;
    }
}

/// For each lane, the lane that `permute` takes.
struct LaneIndex {
  int32_t v[Vec::kLanes];
};
inline LaneIndex lane_index(const int32_t* lanes) {
  LaneIndex i;
  std::memcpy(i.v, lanes, sizeof(i.v));
  return i;
}
inline LaneIndex next(LaneIndex i) {
  for (int32_t& lane : i.v) ++lane;
  return i;
}
inline Vec permute(Vec a, LaneIndex i) {
  Vec b = a;
  for (int lane = 0; lane < Vec::kLanes; ++lane) b.v[lane] = a.v[i.v[lane]];
  return b;
}

}  // namespace
}  // namespace fastconv
