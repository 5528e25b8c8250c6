// y[n,c] = mean or maximum over w of x[n,c,w], the image being one window, images as they lie.
//
// A plane is read once, by four vectors in turn, which then become one number. The floor is the bytes of x. Work is cut
// by planes.

#include <cmath>

#include "pool/cpu/global.h"

namespace fastconv {
namespace {

constexpr int kVectors = 4;

const char* why_not(const PoolProblem& p) { return why_not_global(p, Layout::kNchw); }

/// The lanes of vectors, of which each has seen something.
template <int kCount>
float total(const Sum (&all)[kCount]) {
  Vec sum = all[0].value;
  for (int v = 1; v < kCount; ++v) sum = sum + all[v].value;
  float result = 0;
  for (int i = 0; i < kLanes; ++i) result += sum.v[i];
  return result;
}
template <int kCount>
float total(const Max (&all)[kCount]) {
  float best = -__builtin_inff();
  for (const Max& one : all)
    for (int i = 0; i < kLanes; ++i)
      if (one.value.v[i] > best || std::isnan(one.value.v[i])) best = one.value.v[i];
  return best;
}
template <int kCount, class T>
float total(const MaxAt<T> (&all)[kCount], int64_t* at) {
  float best = -__builtin_inff();
  *at = INT32_MAX;
  for (const MaxAt<T>& one : all)
    for (int i = 0; i < kLanes; ++i) {
      const float value = one.value.v[i];
      const int64_t place = one.at[i];
      const bool is_nan = std::isnan(value);
      if (value > best || (value == best && place < *at) || (is_nan && (!std::isnan(best) || place > *at)))
        best = value, *at = place;
    }
  return best;
}

template <class T, class Reduction>
void reduce(const PoolProblem& p, const PoolArgs& args, int64_t plane) {
  constexpr bool kIndexed = !std::is_same_v<typename Reduction::Index, NoIndices>;
  const T* x = static_cast<const T*>(args.x) + plane * p.W;
  Reduction all[kVectors];
  if constexpr (kIndexed)
    for (Reduction& one : all) one.begin(INT32_MAX);
  const Ints lane = lane_numbers();
  int64_t w = 0;
  const auto see = [&](Reduction& one, int64_t at) {
    if constexpr (kIndexed) {
      const Vec value = load(x + at);
      const auto larger = is_larger(value, one.value) | ((value.v == one.value.v) & (one.at == INT32_MAX));
      one.value.v = larger ? value.v : one.value.v;
      one.at = larger ? lane + static_cast<int32_t>(at) : one.at;
    } else {
      one.see(load(x + at), 0);
    }
  };
  for (; w + kVectors * kLanes <= p.W; w += kVectors * kLanes)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) see(all[v], w + v * kLanes);
  for (; w + kLanes <= p.W; w += kLanes) see(all[0], w);
  // The rest, one after another: a lane without an input must not count.
  float result;
  int64_t at = 0;
  if constexpr (kIndexed) result = total(all, &at);
  else result = total(all);
  for (; w < p.W; ++w) {
    const float value = to_float(x[w]);
    if constexpr (std::is_same_v<Reduction, Sum>) result += value;
    else if (value > result || std::isnan(value) || at == INT32_MAX) result = value, at = w;
  }
  if constexpr (std::is_same_v<Reduction, Sum>) result /= global_divisor(p);
  finish_channels(broadcast(result), args.epilogue, static_cast<T*>(args.out), plane / p.C * p.C, plane % p.C, 1);
  if constexpr (kIndexed)
    static_cast<typename Reduction::Index*>(args.index)[plane] = static_cast<typename Reduction::Index>(at);
}

void run(const PoolProblem& p, const PoolArgs& args) {
  const int64_t planes = p.N * p.C, tasks = least(planes, num_threads());
  with_types(p, args, [&](auto element, auto reduction) {
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(planes, tasks, task);
      for (int64_t plane = range.begin; plane < range.end; ++plane)
        reduce<decltype(element), decltype(reduction)>(p, args, plane);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_fprop_global_nchw)) = {
    .algorithm = Algorithm::kGlobal, .why_not = why_not, .run = run};

}  // namespace fastconv
