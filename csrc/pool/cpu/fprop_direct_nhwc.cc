// y[n,z,p,q,c] = mean, maximum or sample of the window of x[n,d,h,w,c]: vectors of channels, the window's inputs seen
// one after another, of a sample twice.
//
// The floor is the bytes of x, y and the indices; a window's inputs come from L1 but for its newest row. A tile is a
// few vectors of channels of one output, whose results stay in registers. Where no index or epilogue is asked for,
// windows of the usual sizes have their own: those that overlap, of a row of outputs, which share columns (slide.h),
// and those of 2x2 inputs each. Work is cut by output rows of all images, and by blocks of channels where rows are few.

#include "core/cpu/parallel.h"
#include "pool/cpu/sample.h"
#include "pool/cpu/slide.h"

namespace fastconv {
namespace {

constexpr int kVectors = 4;
constexpr int kSliding = kLanes == 16 ? 4 : 2;  // whose columns are kept in half the registers

const char* why_not(const PoolProblem& p) {
  if (const char* reason = p.mode == PoolMode::kSto ? why_not_elements(p) : why_not_vectors(p)) return reason;
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

/// An output row, and the channels [begin, end) of it that are computed at once.
struct Row {
  PoolWindow d, h;
  int64_t image, first;  // the image, and the row's first pixel
  int64_t begin, end;
};

Divisor divisor_at(const PoolProblem& p, const Row& row, const PoolWindow& w) {
  const int64_t d = divisor_of(p, row.d, row.h, w);
  return Divisor(d ? static_cast<float>(d) : 1);
}

/// One output pixel by kCount vectors of channels from `channel` on; a single one has `lanes` channels.
template <int kCount, class T, class Reduction>
void reduce(const PoolProblem& p, const PoolArgs& args, const Row& row, const PoolWindow& w, const Divisor& divisor,
            int64_t pixel, int64_t channel, int64_t lanes) {
  const int64_t n = kCount > 1 ? kLanes : lanes;
  constexpr bool kIndexed = kIsIndexed<Reduction>;
  const T* image = static_cast<const T*>(args.x) + row.image * p.D * p.H * p.W * p.C + channel;
  Reduction all[kCount];
  if constexpr (kIndexed) {
    const int64_t first = index_of(p, row.d, row.d.taps.begin, row.h, row.h.taps.begin, w, w.taps.begin);
    for (Reduction& one : all) one.begin(static_cast<int32_t>(first));
  }
  for (int64_t t = row.d.taps.begin; t < row.d.taps.end; ++t)
    for (int64_t r = row.h.taps.begin; r < row.h.taps.end; ++r) {
      const T* x = image + ((row.d.input(t) * p.H + row.h.input(r)) * p.W + w.input(w.taps.begin)) * p.C;
      for (int64_t s = w.taps.begin; s < w.taps.end; ++s, x += w.step * p.C) {
        const auto place = static_cast<int32_t>(kIndexed ? index_of(p, row.d, t, row.h, r, w, s) : 0);
#pragma GCC unroll 4
        for (int v = 0; v < kCount; ++v) see_one(all[v], load_lanes(x + v * kLanes, n), place);
      }
    }
#pragma GCC unroll 4
  for (int v = 0; v < kCount; ++v) {
    const int64_t c = channel + v * kLanes, at = pixel * p.C;
    finish_channels(all[v].result(divisor), args.epilogue, static_cast<T*>(args.out), at, c, n);
    if constexpr (kIndexed) store_ints(static_cast<typename Reduction::Index*>(args.index) + at + c, all[v].at, n);
  }
}

/// The outputs `qs` of a row, whose windows lie inside the image, by kCount vectors of channels.
template <int kStep, int kCount, class T, class Reduction, int... kTap>
__attribute__((noinline)) void slide_row(const PoolProblem& p, const PoolArgs& args, const Row& row, PoolSpan qs,
                                         int64_t channel, int64_t lanes, std::integer_sequence<int, kTap...> taps) {
  using Values = Several<Reduction, kCount>;
  const int64_t n = kCount > 1 ? kLanes : lanes, pixel = p.C, row_size = row.h.step * p.W * p.C;
  const PoolWindow first = window_of(width_of(p), qs.begin);
  const T* x = static_cast<const T*>(args.x) +
               ((row.image * p.H + row.h.input(row.h.taps.begin)) * p.W + first.input(first.taps.begin)) * p.C +
               channel;
  T* y = static_cast<T*>(args.out) + (row.first + qs.begin) * p.C + channel;
  const Divisor divisor = divisor_at(p, row, first);
  const auto column = [&](Values& values) __attribute__((always_inline)) {
    values.each([=](Reduction& one, int v) __attribute__((always_inline)) {
      const auto input = [=](int row)
                             __attribute__((always_inline)) { return load_lanes(x + row * row_size + v * kLanes, n); };
      see_all<sizeof...(kTap)>(one, input);
    });
    x += pixel;
  };
  const auto done = [&](Values& total) __attribute__((always_inline)) {
    total.each([=](const Reduction& one, int v)
                   __attribute__((always_inline)) { store_lanes(y + v * kLanes, one.result(divisor), n); });
    y += pixel;
  };
  slide<kStep, Values>(qs.count(), column, done, taps);
}

/// The outputs `qs` of a row, each of 2x2 inputs that no other has: in the order of memory, whose streams are two rows.
template <class T, class Reduction>
__attribute__((noinline)) void tile_row(const PoolProblem& p, const PoolArgs& args, const Row& row, PoolSpan qs) {
  const int64_t row_size = row.h.step * p.W * p.C, C = p.C, begin = row.begin, end = row.end;
  const PoolWindow first = window_of(width_of(p), qs.begin);
  const T* x = static_cast<const T*>(args.x) +
               ((row.image * p.H + row.h.input(row.h.taps.begin)) * p.W + first.input(first.taps.begin)) * C;
  T* y = static_cast<T*>(args.out) + (row.first + qs.begin) * C;
  const Divisor divisor = divisor_at(p, row, first);
  const bool streamed = outgrows_caches(p.x_elements() + p.y_elements(), C, args.out);
  const auto one = [&](int64_t c, int64_t n) __attribute__((always_inline)) {
    const auto input = [=](int i) __attribute__((always_inline)) {
      return load_lanes(x + i / 2 * row_size + i % 2 * C + c, n);
    };
    Reduction all;
    see_all<4>(all, input);
    write_lanes(y + c, all.result(divisor), n, streamed);
  };
  for (int64_t q = qs.begin; q < qs.end; ++q, x += 2 * C, y += C) {
    int64_t c = begin;
    for (; c + 2 * kLanes <= end; c += 2 * kLanes) one(c, kLanes), one(c + kLanes, kLanes);
    for (; c < end; c += kLanes) one(c, least(kLanes, end - c));
  }
  if (streamed) flush_streams();
}

/// The outputs of the row that were computed as windows of usual sizes, if any.
template <class T, class Reduction>
PoolSpan usual(const PoolProblem& p, const PoolArgs& args, const Row& row) {
  if constexpr (std::is_same_v<Reduction, Sum> || std::is_same_v<Reduction, Max>) {
    const PoolSpan qs = inside(width_of(p));
    const bool square = p.D == 1 && row.h.taps.count() == p.S && p.dilation_w == 1;
    if (!square || !qs.count() || wants_epilogue(args.epilogue)) return {0, 0};
    if (p.S == 2 && p.stride_w == 2) {
      tile_row<T, Reduction>(p, args, row, qs);
      return qs;
    }
    const auto by = [&](auto taps, auto step) {
      int64_t c = row.begin;
      for (; c + kSliding * kLanes <= row.end; c += kSliding * kLanes)
        slide_row<step(), kSliding, T, Reduction>(p, args, row, qs, c, kLanes, taps);
      for (; c < row.end; c += kLanes)
        slide_row<step(), 1, T, Reduction>(p, args, row, qs, c, least(kLanes, row.end - c), taps);
    };
    if (with_sliding(p.S, p.stride_w, by)) return qs;
  }
  return {0, 0};
}

/// A window's draw, whose places are of `Index` where they are asked for.
template <class T>
struct Draw {
  using Index = T;
};

/// `lanes` channels from `channel` on.
template <class T, class Index>
void draw(const PoolProblem& p, const PoolArgs& args, const Row& row, const PoolWindow& w, int64_t pixel,
          int64_t channel, int64_t lanes) {
  const T* image = static_cast<const T*>(args.x) + row.image * p.D * p.H * p.W * p.C + channel;
  const int64_t at = pixel * p.C + channel;
  const Vec uniform = load_lanes(static_cast<const T*>(args.uniform) + at, lanes);
  Ints places;
  const Vec drawn = sample(p, image, row.d, row.h, w, uniform, lanes, &places);
  finish_channels(drawn, args.epilogue, static_cast<T*>(args.out), pixel * p.C, channel, lanes);
  if constexpr (!std::is_same_v<Index, NoIndices>) store_ints(static_cast<Index*>(args.index) + at, places, lanes);
}

/// Of the outputs `qs` of a row each by itself.
template <class T, class Reduction>
void reduce_row(const PoolProblem& p, const PoolArgs& args, const Row& row, PoolSpan qs) {
  using Index = typename Reduction::Index;
  for (int64_t q = qs.begin; q < qs.end; ++q) {
    const PoolWindow w = window_of(width_of(p), q);
    const int64_t pixel = row.first + q;
    int64_t c = row.begin;
    if constexpr (std::is_same_v<Reduction, Draw<Index>>) {
      for (; c < row.end; c += kLanes) draw<T, Index>(p, args, row, w, pixel, c, least(kLanes, row.end - c));
    } else {
      const Divisor divisor = divisor_at(p, row, w);
      for (; c + kVectors * kLanes <= row.end; c += kVectors * kLanes)
        reduce<kVectors, T, Reduction>(p, args, row, w, divisor, pixel, c, kLanes);
      for (; c < row.end; c += kLanes)
        reduce<1, T, Reduction>(p, args, row, w, divisor, pixel, c, least(kLanes, row.end - c));
    }
  }
}

template <class T, class Reduction>
void run_as(const PoolProblem& p, const PoolArgs& args) {
  constexpr int64_t kBlock = kVectors * kLanes;
  const int64_t rows = p.N * p.Z * p.P;
  const int64_t blocks = rows < 4 * num_threads() ? divide_up(p.C, kBlock) : 1,
                block = divide_up(p.C, blocks * kBlock) * kBlock;
  const int64_t tasks = least(rows * blocks, num_threads());
  parallel_for(tasks, [&](int64_t task) {
    const Range mine = part_of(rows * blocks, tasks, task);
    for (int64_t part = mine.begin; part < mine.end; ++part) {
      const int64_t number = part / blocks, begin = part % blocks * block;
      const Row row{.d = window_of(depth_of(p), number / p.P % p.Z),
                    .h = window_of(height_of(p), number % p.P),
                    .image = number / (p.Z * p.P),
                    .first = number * p.Q,
                    .begin = begin,
                    .end = least(begin + block, p.C)};
      const PoolSpan done = usual<T, Reduction>(p, args, row);
      reduce_row<T, Reduction>(p, args, row, {0, done.begin});
      reduce_row<T, Reduction>(p, args, row, {done.end, p.Q});
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
