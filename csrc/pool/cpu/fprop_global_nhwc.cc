// y[n,c] = mean or maximum over w of x[n,w,c], the image being one window.
//
// Pixels stream through, four at a time; the results of a block of channels are kept in L1. The floor is the bytes of
// x. Work is cut by images, and by blocks of channels where images are few.

#include "pool/cpu/global.h"

namespace fastconv {
namespace {

constexpr int64_t kBlock = 1024;  // channels, whose results and indices take 8 KB
constexpr int kPixels = 4;

const char* why_not(const PoolProblem& p) { return why_not_global(p, Layout::kNhwc); }

size_t workspace(const PoolProblem&) { return static_cast<size_t>(num_threads() * 2 * kBlock) * sizeof(float); }

template <class T, class Reduction>
struct Block {
  static constexpr bool kIndexed = kIsIndexed<Reduction>;
  const PoolProblem& p;
  const PoolArgs& args;
  float* values;
  int32_t* places;

  /// kCount pixels from `w` on, into the results of `count` channels from `x` on.
  template <int kCount>
  void see(const T* x, int64_t w, int64_t count) {
    for (int64_t c = 0; c < count; c += kLanes) {
      const int64_t n = least(kLanes, count - c);
      Reduction one;
      if (w) {
        one.value = load(values + c);
        if constexpr (kIndexed) std::memcpy(&one.at, places + c, sizeof(one.at));
      }
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) see_one(one, load_lanes(x + i * p.C + c, n), static_cast<int32_t>(w + i));
      store(values + c, one.value);
      if constexpr (kIndexed) std::memcpy(places + c, &one.at, sizeof(one.at));
    }
  }

  /// The channels [begin, end) of image n.
  void run(int64_t n, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(args.x) + n * p.W * p.C + begin;
    int64_t w = 0;
    for (; w + kPixels <= p.W; w += kPixels) see<kPixels>(x + w * p.C, w, end - begin);
    for (; w < p.W; ++w) see<1>(x + w * p.C, w, end - begin);
    const Divisor divisor(global_divisor(p));
    for (int64_t c = 0; c < end - begin; c += kLanes) {
      const int64_t lanes = least(kLanes, end - begin - c), at = n * p.C + begin + c;
      Reduction one;
      one.value = load(values + c);
      finish_channels(one.result(divisor), args.epilogue, static_cast<T*>(args.out), n * p.C, begin + c, lanes);
      if constexpr (kIndexed) {
        std::memcpy(&one.at, places + c, sizeof(one.at));
        store_ints(static_cast<typename Reduction::Index*>(args.index) + at, one.at, lanes);
      }
    }
  }
};

void run(const PoolProblem& p, const PoolArgs& args) {
  const int64_t wanted = p.N < num_threads() ? divide_up(num_threads(), most(p.N, 1)) : 1;
  const int64_t block = least(kBlock, round_up(divide_up(p.C, wanted), 4 * kLanes)), blocks = divide_up(p.C, block);
  const int64_t tasks = least(p.N * blocks, num_threads());
  with_types(p, args, [&](auto element, auto reduction) {
    parallel_for(tasks, [&](int64_t task) {
      float* values = static_cast<float*>(args.workspace) + task * 2 * kBlock;
      Block<decltype(element), decltype(reduction)> mine{p, args, values, reinterpret_cast<int32_t*>(values + kBlock)};
      const Range range = part_of(p.N * blocks, tasks, task);
      for (int64_t part = range.begin; part < range.end; ++part) {
        const int64_t begin = part % blocks * block;
        mine.run(part / blocks, begin, least(begin + block, p.C));
      }
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_fprop_global_nhwc)) = {
    .algorithm = Algorithm::kGlobal, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
