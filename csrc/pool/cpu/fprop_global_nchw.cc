// y[n,c] = mean or maximum over w of x[n,c,w], the image being one window, images as they lie.
//
// A plane is read once, by four vectors in turn. Planes of as many channels as a vector has lanes are finished
// together: their lanes are exchanged, so that a lane is a channel. The floor is the bytes of x. Work is cut by such
// groups.

#include <cmath>

#include "pool/cpu/global.h"

namespace fastconv {
namespace {

constexpr int kVectors = 4;
constexpr int32_t kNowhere = INT32_MAX;

const char* why_not(const PoolProblem& p) { return why_not_global(p, Layout::kNchw); }

/// What the lanes of a plane's vectors have seen: of the first `n` channels from x on, a lane each.
template <class T, class Reduction>
Vec lanes_of(const T* x, int64_t plane, int64_t n) {
  Vec rows[kLanes];
  for (int64_t c = 0; c < n; ++c) {
    const T* from = x + c * plane;
    Reduction all[kVectors];
    int64_t w = 0;
    for (; w + kVectors * kLanes <= plane; w += kVectors * kLanes)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) all[v].see(load(from + w + v * kLanes));
    for (; w + kLanes <= plane; w += kLanes) all[0].see(load(from + w));
    if (w < plane) {
      // The last whole vector, of whose lanes the first were seen: quicker than a part of one.
      const bool whole = plane >= kLanes;
      const auto left = static_cast<int32_t>(plane - w);
      Vec rest = whole ? load(from + plane - kLanes) : load(from + w, left);
      const Ints lane = lane_numbers(), first = Ints{} + (whole ? static_cast<int32_t>(kLanes) - left : 0);
      rest.v = (lane >= first) & (lane < first + left) ? rest.v : Reduction{}.value.v;
      all[1].see(rest);
    }
    all[0].see(all[1].value);
    all[2].see(all[3].value);
    all[0].see(all[2].value);
    rows[c] = all[0].value;
  }
  for (int64_t c = n; c < kLanes; ++c) rows[c] = zero();
  transpose(rows);
  Reduction total;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += 2) total.see(rows[i], rows[i + 1]);
  return total.value;
}

template <int kCount, class T>
float total(const MaxAt<T> (&all)[kCount], int64_t* at) {
  float best = -__builtin_inff();
  *at = kNowhere;
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

/// The channel of a plane with its index.
template <class T, class Index>
void reduce_indexed(const PoolProblem& p, const PoolArgs& args, int64_t plane) {
  const T* x = static_cast<const T*>(args.x) + plane * p.W;
  MaxAt<Index> all[kVectors];
  for (MaxAt<Index>& one : all) one.begin(kNowhere);
  const Ints lane = lane_numbers();
  const auto see = [&](MaxAt<Index>& one, int64_t w) {
    const Vec value = load(x + w);
    const auto larger = is_larger(value, one.value) | ((value.v == one.value.v) & (one.at == kNowhere));
    one.value.v = larger ? value.v : one.value.v;
    one.at = larger ? lane + static_cast<int32_t>(w) : one.at;
  };
  int64_t w = 0;
  for (; w + kVectors * kLanes <= p.W; w += kVectors * kLanes)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) see(all[v], w + v * kLanes);
  for (; w + kLanes <= p.W; w += kLanes) see(all[0], w);
  int64_t at = kNowhere;
  float best = total(all, &at);
  for (; w < p.W; ++w) {
    const float value = to_float(x[w]);
    if (value > best || std::isnan(value) || at == kNowhere) best = value, at = w;
  }
  finish_channels(broadcast(best), args.epilogue, static_cast<T*>(args.out), plane / p.C * p.C, plane % p.C, 1);
  static_cast<Index*>(args.index)[plane] = static_cast<Index>(at);
}

/// The channels [c, c + n) of image `image`.
template <class T, class Reduction>
void reduce(const PoolProblem& p, const PoolArgs& args, int64_t image, int64_t c, int64_t n) {
  if constexpr (!kIsIndexed<Reduction>) {
    const T* x = static_cast<const T*>(args.x) + (image * p.C + c) * p.W;
    Reduction all;
    all.value = lanes_of<T, Reduction>(x, p.W, n);
    finish_channels(all.result(Divisor(global_divisor(p))), args.epilogue, static_cast<T*>(args.out), image * p.C, c,
                    n);
  } else {
    for (int64_t i = 0; i < n; ++i) reduce_indexed<T, typename Reduction::Index>(p, args, image * p.C + c + i);
  }
}

void run(const PoolProblem& p, const PoolArgs& args) {
  const int64_t groups = divide_up(p.C, kLanes), units = p.N * groups, tasks = least(units, num_threads());
  with_types(p, args, [&](auto element, auto reduction) {
    parallel_for(tasks, [&](int64_t task) {
      const Range range = part_of(units, tasks, task);
      for (int64_t unit = range.begin; unit < range.end; ++unit) {
        const int64_t c = unit % groups * kLanes;
        reduce<decltype(element), decltype(reduction)>(p, args, unit / groups, c, least(kLanes, p.C - c));
      }
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_fprop_global_nchw)) = {
    .algorithm = Algorithm::kGlobal, .why_not = why_not, .run = run};

}  // namespace fastconv
