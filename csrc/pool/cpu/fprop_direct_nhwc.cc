// y[n,z,p,q,c] = mean, maximum or sample of the window of x[n,d,h,w,c]: vectors of channels, the window's inputs seen
// one after another, of a sample twice.
//
// The floor is the bytes of x, y and the indices; a window's inputs come from L1 but for its newest row. A tile is
// kVectors vectors of channels of one output, whose results stay in registers. Work is cut by output rows of all
// images, and by blocks of channels where rows are few.

#include "core/cpu/parallel.h"
#include "pool/cpu/sample.h"

namespace fastconv {
namespace {

constexpr int kVectors = 4;

const char* why_not(const PoolProblem& p) {
  if (const char* reason = p.mode == PoolMode::kSto ? why_not_elements(p) : why_not_vectors(p)) return reason;
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

/// One output pixel: its window, of which `place` counts the inputs.
template <class T>
struct Pixel {
  const T* x;  // channel 0 of the image
  PoolWindow d, h, w;
  float divisor;
  int64_t at;  // the pixel's first element of y
};

/// kCount vectors of channels from `channel` on; a single one has `lanes` channels.
template <int kCount, class T, class Reduction>
void reduce(const PoolProblem& p, const PoolArgs& args, const Pixel<T>& o, int64_t channel, int64_t lanes) {
  const int64_t n = kCount > 1 ? kLanes : lanes;
  constexpr bool kIndexed = !std::is_same_v<typename Reduction::Index, NoIndices>;
  Reduction all[kCount];
  if constexpr (kIndexed) {
    const int64_t first = index_of(p, o.d, o.d.taps.begin, o.h, o.h.taps.begin, o.w, o.w.taps.begin);
    for (Reduction& one : all) one.begin(static_cast<int32_t>(first));
  }
  for (int64_t t = o.d.taps.begin; t < o.d.taps.end; ++t)
    for (int64_t r = o.h.taps.begin; r < o.h.taps.end; ++r) {
      const T* x = o.x + ((o.d.input(t) * p.H + o.h.input(r)) * p.W + o.w.input(o.w.taps.begin)) * p.C + channel;
      for (int64_t s = o.w.taps.begin; s < o.w.taps.end; ++s, x += o.w.step * p.C) {
        const auto place = static_cast<int32_t>(kIndexed ? index_of(p, o.d, t, o.h, r, o.w, s) : 0);
#pragma GCC unroll 4
        for (int v = 0; v < kCount; ++v) all[v].see(load_lanes(x + v * kLanes, n), place);
      }
    }
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v) {
    const int64_t c = channel + v * kLanes;
    finish_channels(all[v].result(broadcast(o.divisor)), args.epilogue, static_cast<T*>(args.out), o.at, c, n);
    if constexpr (kIndexed) store_ints(static_cast<typename Reduction::Index*>(args.index) + o.at + c, all[v].at, n);
  }
}

/// A window's draw, whose places are of `Index` where they are asked for.
template <class T>
struct Draw {
  using Index = T;
};

/// `lanes` channels from `channel` on.
template <class T, class Index>
void draw(const PoolProblem& p, const PoolArgs& args, const Pixel<T>& o, int64_t channel, int64_t lanes) {
  const int64_t at = o.at + channel;
  const Vec uniform = load_lanes(static_cast<const T*>(args.uniform) + at, lanes);
  Ints places;
  const Vec drawn = sample(p, o.x + channel, o.d, o.h, o.w, uniform, lanes, &places);
  finish_channels(drawn, args.epilogue, static_cast<T*>(args.out), o.at, channel, lanes);
  if constexpr (!std::is_same_v<Index, NoIndices>) store_ints(static_cast<Index*>(args.index) + at, places, lanes);
}

/// The channels [begin, end) of an output.
template <class T, class Reduction>
void make(const PoolProblem& p, const PoolArgs& args, const Pixel<T>& o, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = kVectors * kLanes;
  int64_t c = begin;
  if constexpr (std::is_same_v<Reduction, Draw<typename Reduction::Index>>) {
    for (; c < end; c += kLanes) draw<T, typename Reduction::Index>(p, args, o, c, least(kLanes, end - c));
  } else {
    for (; c + kBlock <= end; c += kBlock) reduce<kVectors, T, Reduction>(p, args, o, c, kLanes);
    for (; c < end; c += kLanes) reduce<1, T, Reduction>(p, args, o, c, least(kLanes, end - c));
  }
}

template <class T, class Reduction>
void run_as(const PoolProblem& p, const PoolArgs& args) {
  constexpr int64_t kBlock = kVectors * kLanes;
  const PoolAxis depth = depth_of(p), height = height_of(p), width = width_of(p);
  const int64_t rows = p.N * p.Z * p.P;
  const int64_t blocks = rows < 4 * num_threads() ? divide_up(p.C, kBlock) : 1,
                block = divide_up(p.C, blocks * kBlock) * kBlock;
  const int64_t tasks = least(rows * blocks, num_threads());
  parallel_for(tasks, [&](int64_t task) {
    const Range mine = part_of(rows * blocks, tasks, task);
    for (int64_t part = mine.begin; part < mine.end; ++part) {
      const int64_t row = part / blocks, n = row / (p.Z * p.P);
      const int64_t begin = part % blocks * block, end = least(begin + block, p.C);
      Pixel<T> o{.x = static_cast<const T*>(args.x) + n * p.D * p.H * p.W * p.C,
                 .d = window_of(depth, row / p.P % p.Z),
                 .h = window_of(height, row % p.P),
                 .w = {},
                 .divisor = 1,
                 .at = 0};
      for (int64_t q = 0; q < p.Q; ++q) {
        o.w = window_of(width, q);
        o.divisor = static_cast<float>(most(divisor_of(p, o.d, o.h, o.w), 1));
        o.at = (row * p.Q + q) * p.C;
        make<T, Reduction>(p, args, o, begin, end);
      }
    }
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  if (p.mode == PoolMode::kSto)
    return with_vector_type(p.dtype, [&](auto element) {
      using T = decltype(element);
      if (!args.index) run_as<T, Draw<NoIndices>>(p, args);
      else if (p.index == IndexType::kUInt8) run_as<T, Draw<uint8_t>>(p, args);
      else run_as<T, Draw<int64_t>>(p, args);
    });
  with_types(p, args, [&](auto element, auto reduction) { run_as<decltype(element), decltype(reduction)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_fprop_direct_nhwc)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run};

}  // namespace fastconv
