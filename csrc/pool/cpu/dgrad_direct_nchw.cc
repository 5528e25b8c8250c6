// dx[n,c,d,h,w] = sum over the outputs whose windows look at the input of dy[n,c,z,p,q] / divisor, or of dy where the
// index says that the input was the maximum, images as they lie.
//
// Each input gathers, so that no two threads write one place. The rows of dy that reach a row of dx lie as float32, and
// their indices as int32, between margins of zeros; of means they are added up before. Inputs a stride apart then read
// one tap at consecutive places: a vector of each of the stride's phases, which are woven. The floor is the bytes of
// dy, dx and the indices. Work is cut by input rows of all planes.

#include "core/cpu/parallel.h"
#include "pool/cpu/gather.h"
#include "pool/cpu/weave.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) {
  if (const char* reason = why_not_vectors(p)) return reason;
  if (p.x_layout != Layout::kNchw || p.y_layout != Layout::kNchw) return "takes contiguous images only";
  if (p.adaptive) return "takes no adaptive windows";
  if (p.dilation_w != 1) return "takes no dilation along rows";
  return nullptr;
}

/// As many places as outputs reach an input, in a power of two: output o of those has the place o & (places - 1).
int64_t places(const PoolAxis& a) {
  const int64_t reach = least(quotient_up((a.taps - 1) * a.dilation + 1, a.stride), most(a.out, 1));
  int64_t count = 1;
  while (count < reach) count *= 2;
  return count;
}

/// A row of dy between its margins, and which one it is.
struct Source {
  float* dy;
  int32_t* index;
  int64_t row;
  int32_t place;  // of the taps t and r by which it looks at the row of dx
};

/// What a task keeps: sources, of them those that reach a row of dx, and the factor of each output's share that is the
/// row's.
struct Room {
  Source *sources, *found;
  float* parts;
  static int64_t margin(const PoolProblem& p) { return p.S + kLanes; }
  static int64_t row_size(const PoolProblem& p) { return round_up(p.Q + 2 * margin(p), kLanes); }
  static int64_t count(const PoolProblem& p) {
    return p.mode == PoolMode::kAvg ? 1 : places(depth_of(p)) * places(height_of(p));
  }
  static size_t bytes(const PoolProblem& p) {
    const int64_t rows = count(p) * 2 * (row_size(p) * 4 + static_cast<int64_t>(sizeof(Source)));
    return static_cast<size_t>(round_up(rows + p.Q * 4, 64));
  }
  Room(const PoolProblem& p, void* workspace, int64_t task) {
    auto* memory = static_cast<char*>(workspace) + static_cast<size_t>(task) * bytes(p);
    std::memset(memory, 0, bytes(p));
    sources = reinterpret_cast<Source*>(memory);
    found = sources + count(p);
    auto* rows = reinterpret_cast<float*>(found + count(p));
    for (int64_t i = 0; i < count(p); ++i, rows += 2 * row_size(p))
      sources[i] = {rows + margin(p), reinterpret_cast<int32_t*>(rows + row_size(p) + margin(p)), -1, 0};
    parts = rows;
    for (int64_t q = 0; q < p.Q; ++q) parts[q] = 1 / static_cast<float>(counted(p, window_of(width_of(p), q)));
  }
};
size_t workspace(const PoolProblem& p) { return static_cast<size_t>(num_threads()) * Room::bytes(p); }

/// kStep is the stride along rows, and kTaps the window's columns: 0 where they are not known before.
template <class T, class Gather, int kStep, int kTaps>
struct Rows {
  using Index = typename Gather::Index;
  static constexpr bool kIndexed = !std::is_same_v<Index, NoIndices>, kInWindow = std::is_same_v<Index, uint8_t>;
  const PoolProblem& p;
  const PoolArgs& args;
  const PoolAxis depth = depth_of(p), height = height_of(p);
  const int64_t depths = places(depth), heights = places(height), step = kStep ? kStep : p.stride_w;
  const Room room;

  Rows(const PoolProblem& problem, const PoolArgs& a, int64_t task)
      : p(problem), args(a), room(problem, a.workspace, task) {}

  /// Row `row` of all rows of outputs, its maxima's indices beside it; it may be there from the row of dx before.
  void take(Source& to, int64_t row) {
    if (to.row == row) return;
    to.row = row;
    for (int64_t q = 0; q < p.Q; q += kLanes) {
      const int64_t n = least(kLanes, p.Q - q), at = row * p.Q + q;
      store_lanes(to.dy + q, load_lanes(static_cast<const T*>(args.dy) + at, n), n);
      if constexpr (kIndexed) store_ints(to.index + q, load_ints(static_cast<const Index*>(args.index) + at, n), n);
    }
  }

  /// Adds the shares of the outputs of a row, by its factor; the first of their kind take the place of what was there.
  void add(Source& to, int64_t row, float factor, bool first) {
    for (int64_t q = 0; q < p.Q; q += kLanes) {
      const int64_t n = least(kLanes, p.Q - q);
      const Vec dy = load_lanes(static_cast<const T*>(args.dy) + row * p.Q + q, n);
      const Vec share = dy * load_lanes(room.parts + q, n) * broadcast(factor);
      store_lanes(to.dy + q, first ? share : load_lanes(to.dy + q, n) + share, n);
    }
  }

  /// Makes room.found the rows of outputs that look at the input row [d, h] of a plane, and returns their number; of
  /// means it is one, their sum.
  int64_t find(int64_t plane, int64_t d, int64_t h) {
    const PoolSpan zs = outputs_of(depth, d), is = outputs_of(height, h);
    int64_t count = 0;
    for (int64_t z = zs.begin; z < zs.end; ++z)
      for (int64_t i = is.begin; i < is.end; ++i) {
        const PoolWindow a = window_of(depth, z), b = window_of(height, i);
        const int64_t t = tap_of(a, d), r = tap_of(b, h), row = (plane * p.Z + z) * p.P + i;
        if (t < 0 || r < 0) continue;
        Source& source = room.sources[kIndexed ? (z & (depths - 1)) * heights + (i & (heights - 1)) : 0];
        if constexpr (kIndexed) {
          take(source, row);
          source.place = static_cast<int32_t>((t * p.R + r) * p.S);
          room.found[count] = source;
        } else {
          const int64_t rows = p.divisor ? p.divisor : counted(p, a) * counted(p, b);
          add(source, row, 1 / static_cast<float>(rows), count == 0);
          room.found[0] = source;
        }
        ++count;
      }
    return kIndexed ? count : least(count, 1);
  }

  /// What the inputs have that are `step` apart, the first by tap `s` of output `q`: at the places `at` of the image.
  FASTCONV_INLINE Vec gather(int64_t count, int64_t s, int64_t q, Ints at) const {
    Vec sum = zero();
    for (const Source* source = room.found; source != room.found + count; ++source)
#pragma GCC unroll 2
      for (int64_t tap = s, o = q; tap < (kTaps ? kTaps : p.S); tap += kStep ? kStep : step, --o) {
        const int64_t from = least(o, p.Q);
        const Vec dy = load(source->dy + from);
        if constexpr (kIndexed) {
          const Ints place = kInWindow ? Ints{} + (source->place + static_cast<int32_t>(tap)) : at;
          sum = sum + Vec{load_ints(source->index + from) == place ? dy.v : zero().v};
        } else {
          sum = sum + dy;
        }
      }
    return sum;
  }

  /// Input row `row` of all planes.
  void run(int64_t row) {
    const int64_t plane = row / (p.D * p.H), inside = row - plane * p.D * p.H;
    const int64_t d = p.D == 1 ? 0 : inside / p.H, h = inside - d * p.H, count = find(plane, d, h);
    const Ints lane = lane_numbers() * static_cast<int32_t>(step);
    T* dx = static_cast<T*>(args.out) + row * p.W;
    // The inputs from w on that are a step apart, the first of them read by tap `phase` of an output.
    const auto vector = [&](int64_t w, int64_t phase) __attribute__((always_inline)) {
      const int64_t flat = (d * p.H + h) * p.W + w;
      return gather(count, phase, (w + p.pad_w) / step, lane + static_cast<int32_t>(flat));
    };
    for (int64_t w = 0; w < p.W; w += step * kLanes) {
      const int64_t n = least(p.W - w, step * kLanes);
      if constexpr (kStep == 1) {
        store_lanes(dx + w, vector(w, 0), n);
      } else if constexpr (kStep == 2) {
        const int64_t odd = p.pad_w & 1;
        const Vec phases[] = {vector(w + odd, 0), vector(w + 1 - odd, 1)};
        const Vec a = odd ? phases[1] : phases[0], b = odd ? phases[0] : phases[1];
        store_lanes(dx + w, Vec{in_turn<0>(a.v, b.v, Lanes{})}, least(n, kLanes));
        if (n > kLanes) store_lanes(dx + w + kLanes, Vec{in_turn<kLanes / 2>(a.v, b.v, Lanes{})}, n - kLanes);
      } else {
        for (int64_t first = 0; first < least(step, n); ++first) {
          const Vec one = vector(w + first, (w + first + p.pad_w) % step);
          for (int64_t i = first; i < n; i += step) from_float(one.v[i / step], dx + w + i);
        }
      }
    }
  }
};

template <int kStep, int kTaps = 0>
void run_by(const PoolProblem& p, const PoolArgs& args) {
  const int64_t rows = p.N * p.C * p.D * p.H, tasks = least(rows, num_threads());
  with_gathers(p, [&](auto element, auto gather) {
    using Mine = Rows<decltype(element), decltype(gather), kStep, std::is_same_v<decltype(gather), Share> ? 0 : kTaps>;
    parallel_for(tasks, [&](int64_t task) {
      Mine mine(p, args, task);
      const Range range = part_of(rows, tasks, task);
      for (int64_t row = range.begin; row < range.end; ++row) mine.run(row);
    });
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  if (p.stride_w == 1) run_by<1>(p, args);
  else if (p.stride_w == 2 && p.S == 2) run_by<2, 2>(p, args);
  else if (p.stride_w == 2 && p.S == 3) run_by<2, 3>(p, args);
  else if (p.stride_w == 2) run_by<2>(p, args);
  else run_by<0>(p, args);
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_dgrad_direct_nchw)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
