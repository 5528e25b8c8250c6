// dx[n,d,h,w,c] = sum over the outputs whose windows look at the input of dy[n,z,p,q,c] / divisor, or of dy where the
// index says that the input was the maximum: each input gathers, so that no two threads write one place.
//
// The floor is the bytes of dy, dx and the indices. Work is cut by input rows of all images, and by blocks of channels
// where rows are few; vectors run over channels. The gradient of means one pixel apart is such a mean, whose windows
// share columns (slide.h); that of maxima through 2x2 or 3x3 inputs two apart knows each input's taps beforehand.

#include "core/cpu/parallel.h"
#include "pool/cpu/gather.h"
#include "pool/cpu/slide.h"

namespace fastconv {
namespace {

constexpr int kVectors = kLanes == 16 ? 4 : 8;  // 64 channels where there are as many
constexpr int kSliding = kLanes == 16 ? 4 : 2;  // whose columns are kept in half the registers

const char* why_not(const PoolProblem& p) {
  if (const char* reason = why_not_vectors(p)) return reason;
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

/// One input pixel, and the outputs whose windows reach it.
struct Pixel {
  int64_t n, d, h, w;
  PoolSpan zs, is, js;
};

/// What is found once a call: the outputs that reach each input of a row, and the row's part of what each output's mean
/// divides by, as a factor.
struct Room {
  PoolSpan* spans;
  float* parts;
  Room(const PoolProblem& p, void* workspace) : spans(static_cast<PoolSpan*>(workspace)) {
    parts = reinterpret_cast<float*>(spans + p.W);
    for (int64_t w = 0; w < p.W; ++w) spans[w] = outputs_of(width_of(p), w);
    for (int64_t q = 0; q < p.Q; ++q) parts[q] = 1 / static_cast<float>(counted(p, window_of(width_of(p), q)));
  }
};
size_t workspace(const PoolProblem& p) {
  return static_cast<size_t>(p.W) * sizeof(PoolSpan) + static_cast<size_t>(p.Q) * sizeof(float);
}

/// What the mean of an output row divides by, but for its part along the row, as a factor.
float row_part(const PoolProblem& p, int64_t z, int64_t i) {
  if (p.divisor) return 1 / static_cast<float>(p.divisor);
  return 1 / static_cast<float>(counted(p, window_of(depth_of(p), z)) * counted(p, window_of(height_of(p), i)));
}

/// The tap by which output `o`, whose window reaches input `i`, looks at it, or -1; not of adaptive windows.
FASTCONV_INLINE int64_t tap_at(const PoolAxis& a, int64_t o, int64_t i) {
  const int64_t place = i + a.pad - o * a.stride;
  if (a.dilation == 1) return place;
  return place % a.dilation ? -1 : place / a.dilation;
}

/// kCount vectors of channels from `channel` on; a single one has `lanes` channels.
template <int kCount, class T, class Gather>
void gather(const PoolProblem& p, const PoolArgs& args, const Room& room, const Pixel& in, int64_t channel,
            int64_t lanes) {
  using Index = typename Gather::Index;
  constexpr bool kIndexed = !std::is_same_v<Index, NoIndices>;
  constexpr bool kInWindow = std::is_same_v<Index, uint8_t>;
  const int64_t n = kCount > 1 ? kLanes : lanes;
  const PoolAxis depth = depth_of(p), height = height_of(p), width = width_of(p);
  const auto flat = static_cast<int32_t>((in.d * p.H + in.h) * p.W + in.w);
  Vec sum[kCount];
#pragma GCC unroll 8
  for (int v = 0; v < kCount; ++v) sum[v] = zero();
  for (int64_t z = in.zs.begin; z < in.zs.end; ++z)
    for (int64_t i = in.is.begin; i < in.is.end; ++i) {
      const int64_t t = kInWindow ? tap_at(depth, z, in.d) : 0, r = kInWindow ? tap_at(height, i, in.h) : 0;
      if (t < 0 || r < 0) continue;
      const float rows = kIndexed ? 1 : row_part(p, z, i);
      int64_t at = (((in.n * p.Z + z) * p.P + i) * p.Q + in.js.begin) * p.C + channel;
      for (int64_t j = in.js.begin; j < in.js.end; ++j, at += p.C) {
        const Vec part = broadcast(kIndexed ? 0 : rows * room.parts[j]);
        int32_t place = flat;
        if constexpr (kInWindow) {
          const int64_t s = tap_at(width, j, in.w);
          if (s < 0) continue;
          place = static_cast<int32_t>((t * p.R + r) * p.S + s);
        }
        const T* dy = static_cast<const T*>(args.dy) + at;
        const Index* index = kIndexed ? static_cast<const Index*>(args.index) + at : nullptr;
#pragma GCC unroll 8
        for (int v = 0; v < kCount; ++v)
          sum[v] =
              sum[v] + Gather::of(load_lanes(dy + v * kLanes, n), part, index + (kIndexed ? v * kLanes : 0), place, n);
      }
    }
  T* dx = static_cast<T*>(args.out) + (((in.n * p.D + in.d) * p.H + in.h) * p.W + in.w) * p.C + channel;
#pragma GCC unroll 8
  for (int v = 0; v < kCount; ++v) store_lanes(dx + v * kLanes, sum[v], n);
}

/// The inputs `ws` of a row, each with as many outputs that reach it along both axes as there are kTap, by kCount
/// vectors of channels.
template <int kCount, class T, int... kTap>
__attribute__((noinline)) void slide_row(const PoolProblem& p, const PoolArgs& args, const Room& room, const Pixel& row,
                                         PoolSpan ws, int64_t channel, int64_t lanes,
                                         std::integer_sequence<int, kTap...> taps) {
  using Values = Several<Sum, kCount>;
  const int64_t n = kCount > 1 ? kLanes : lanes, pixel = p.C, row_size = p.Q * p.C;
  const int64_t first = room.spans[ws.begin].begin;
  const T* dy = static_cast<const T*>(args.dy) + ((row.n * p.P + row.is.begin) * p.Q + first) * p.C + channel;
  T* dx = static_cast<T*>(args.out) + ((row.n * p.H + row.h) * p.W + ws.begin) * p.C + channel;
  const float* part = room.parts + first;
  const float rows[] = {row_part(p, 0, row.is.begin + kTap)...};
  const auto column = [&](Values& values) __attribute__((always_inline)) {
    values.take(Values{});
    const auto see = [&](const T* from, float factor) __attribute__((always_inline)) {
      values.each([=](Sum& sum, int v) __attribute__((always_inline)) {
        sum.value = fma(load_lanes(from + v * kLanes, n), broadcast(factor), sum.value);
      });
    };
    (see(dy + kTap * row_size, *part * rows[kTap]), ...);
    dy += pixel;
    ++part;
  };
  const auto done = [&](Values& total) __attribute__((always_inline)) {
    total.each([=](const Sum& sum, int v)
                   __attribute__((always_inline)) { store_lanes(dx + v * kLanes, sum.value, n); });
    dx += pixel;
  };
  slide<1, Values>(ws.count(), column, done, taps);
}

/// The inputs of the row that were computed by sliding, if any, for the channels [begin, end).
template <class T, class Gather>
PoolSpan slid(const PoolProblem& p, const PoolArgs& args, const Room& room, const Pixel& row, int64_t begin,
              int64_t end) {
  if constexpr (std::is_same_v<Gather, Share>) {
    const PoolSpan ws{most(p.S - 1 - p.pad_w, 0), least(p.Q - p.pad_w, p.W)};
    const bool dense = p.D == 1 && !p.adaptive && p.stride_w == 1 && p.stride_h == 1;
    const auto by = [&](auto taps, auto) {
      int64_t c = begin;
      for (; c + kSliding * kLanes <= end; c += kSliding * kLanes)
        slide_row<kSliding, T>(p, args, room, row, ws, c, kLanes, taps);
      for (; c < end; c += kLanes) slide_row<1, T>(p, args, room, row, ws, c, least(kLanes, end - c), taps);
    };
    if (dense && row.is.count() == p.S && ws.count() && with_sliding(p.S, 1, by)) return ws;
  }
  return {0, 0};
}

/// The inputs `ws` of a row, below windows of kTaps x kTaps two apart that all lie in the image, by kCount vectors of
/// channels: of an input's taps the even ones reach outputs or the odd ones.
template <int kCount, class T, class Gather, int kTaps>
__attribute__((noinline)) void strided_row(const PoolProblem& p, const PoolArgs& args, const Pixel& row, PoolSpan ws,
                                           int64_t channel, int64_t lanes, bool streamed) {
  using Index = typename Gather::Index;
  constexpr int kRows = (kTaps + 1) / 2;  // of outputs that reach an input, at most
  const int64_t n = kCount > 1 ? kLanes : lanes, C = p.C, count = row.is.count();
  const T* dy[kRows] = {};
  const Index* index[kRows] = {};
  int32_t places[kRows] = {};
  for (int64_t f = 0; f < count; ++f) {
    const int64_t i = row.is.begin + f, at = (row.n * p.P + i) * p.Q * C + channel;
    dy[f] = static_cast<const T*>(args.dy) + at;
    index[f] = static_cast<const Index*>(args.index) + at;
    places[f] = static_cast<int32_t>((row.h + p.pad_h - 2 * i) * p.S);
  }
  T* dx = static_cast<T*>(args.out) + ((row.n * p.H + row.h) * p.W) * C + channel;
  const auto input = [&](int64_t w, auto odd) __attribute__((always_inline)) {
    const int64_t last = (w + p.pad_w) / 2;
    const auto flat = static_cast<int32_t>(row.h * p.W + w);
    Vec sum[kCount];
#pragma GCC unroll 8
    for (int v = 0; v < kCount; ++v) sum[v] = zero();
    for (int64_t f = 0; f < count; ++f)
#pragma GCC unroll 2
      for (int s = odd; s < kTaps; s += 2) {
        const int64_t at = (last - s / 2) * C;
        const int32_t place = std::is_same_v<Index, uint8_t> ? places[f] + s : flat;
#pragma GCC unroll 8
        for (int v = 0; v < kCount; ++v) {
          const int64_t c = at + v * kLanes;
          sum[v] = sum[v] + Gather::of(load_lanes(dy[f] + c, n), zero(), index[f] + c, place, n);
        }
      }
    T* to = dx + w * C;
#pragma GCC unroll 8
    for (int v = 0; v < kCount; ++v) write_lanes(to + v * kLanes, sum[v], n, streamed);
  };
  for (int64_t w = ws.begin; w < ws.end; ++w)
    if ((w + p.pad_w) % 2) input(w, std::integral_constant<int, 1>{});
    else input(w, std::integral_constant<int, 0>{});
}

/// The inputs of the row that were computed as below windows of usual sizes two apart, if any, for the channels
/// [begin, end).
template <class T, class Gather>
PoolSpan strided(const PoolProblem& p, const PoolArgs& args, const Pixel& row, int64_t begin, int64_t end) {
  if constexpr (!std::is_same_v<Gather, Share>) {
    const bool usual = p.D == 1 && !p.adaptive && p.R == p.S && p.stride_w == 2 && p.stride_h == 2 &&
                       p.dilation_w == 1 && p.dilation_h == 1;
    const PoolSpan ws{most(p.S - 1 - p.pad_w, 0), least(2 * p.Q - p.pad_w, p.W)};
    if (!usual || !ws.count()) return {0, 0};
    const bool streamed = outgrows_caches(p.x_elements() + 2 * p.y_elements(), p.C, args.out);
    const auto by = [&](auto taps) {
      constexpr int kTaps = decltype(taps)::value;
      constexpr int64_t kBlock = kVectors * kLanes;
      int64_t c = begin;
      for (; c + kBlock <= end; c += kBlock)
        strided_row<kVectors, T, Gather, kTaps>(p, args, row, ws, c, kLanes, streamed);
      for (; c < end; c += kLanes)
        strided_row<1, T, Gather, kTaps>(p, args, row, ws, c, least(kLanes, end - c), streamed);
      if (streamed) flush_streams();
      return ws;
    };
    if (p.S == 2) return by(std::integral_constant<int, 2>{});
    if (p.S == 3) return by(std::integral_constant<int, 3>{});
  }
  return {0, 0};
}

/// Of the inputs `ws` of a row each by itself, the channels [begin, end).
template <class T, class Gather>
void gather_row(const PoolProblem& p, const PoolArgs& args, const Room& room, Pixel in, PoolSpan ws, int64_t begin,
                int64_t end) {
  constexpr int64_t kBlock = kVectors * kLanes;
  for (in.w = ws.begin; in.w < ws.end; ++in.w) {
    in.js = room.spans[in.w];
    int64_t c = begin;
    for (; c + kBlock <= end; c += kBlock) gather<kVectors, T, Gather>(p, args, room, in, c, kLanes);
    for (; c < end; c += kLanes) gather<1, T, Gather>(p, args, room, in, c, least(kLanes, end - c));
  }
}

template <class T, class Gather>
void run_as(const PoolProblem& p, const PoolArgs& args) {
  constexpr int64_t kBlock = kVectors * kLanes;
  const Room room(p, args.workspace);
  const PoolAxis depth = depth_of(p), height = height_of(p);
  const int64_t rows = p.N * p.D * p.H;
  const int64_t blocks = rows < 4 * num_threads() ? divide_up(p.C, kBlock) : 1;
  const int64_t block = divide_up(p.C, blocks * kBlock) * kBlock;
  const int64_t tasks = least(rows * blocks, num_threads());
  parallel_for(tasks, [&](int64_t task) {
    const Range mine = part_of(rows * blocks, tasks, task);
    for (int64_t part = mine.begin; part < mine.end; ++part) {
      const int64_t row = part / blocks, begin = part % blocks * block, end = least(begin + block, p.C);
      Pixel in{.n = row / (p.D * p.H), .d = row / p.H % p.D, .h = row % p.H, .w = 0, .zs = {}, .is = {}, .js = {}};
      in.zs = outputs_of(depth, in.d);
      in.is = outputs_of(height, in.h);
      constexpr bool kMeans = std::is_same_v<Gather, Share>;
      const PoolSpan done =
          kMeans ? slid<T, Gather>(p, args, room, in, begin, end) : strided<T, Gather>(p, args, in, begin, end);
      gather_row<T, Gather>(p, args, room, in, {0, done.begin}, begin, end);
      gather_row<T, Gather>(p, args, room, in, {done.end, p.W}, begin, end);
    }
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  with_gathers(p, [&](auto element, auto each) { run_as<decltype(element), decltype(each)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_dgrad_direct_nhwc)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
