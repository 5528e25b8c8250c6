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
};
/// One that looks at a row of dx, and the place of its window's first tap there; of a few taps each place, to be read
/// from memory into all lanes.
struct Found {
  static constexpr int kPlaces = 3;
  const float* dy;
  const int32_t* index;
  int32_t place[kPlaces];
};

/// What a task keeps: sources, of them those that reach a row of dx; the outputs that reach each row of a plane; and
/// the factors of a mean's share that are an output column's and an output row's.
struct Room {
  Source* sources;
  Found* found;
  PoolSpan* spans;
  float *column_parts, *row_parts;
  static int64_t margin(const PoolProblem& p) { return p.S + kLanes; }
  /// With zeros behind the last output for what lies behind the last input that a window looks at.
  static int64_t row_size(const PoolProblem& p) {
    return round_up(most(p.Q, (p.W + p.pad_w) / p.stride_w) + 2 * margin(p), kLanes);
  }
  static int64_t count(const PoolProblem& p) {
    return p.mode == PoolMode::kAvg ? 1 : places(depth_of(p)) * places(height_of(p));
  }
  static size_t bytes(const PoolProblem& p) {
    const int64_t rows = count(p) * (2 * row_size(p) * 4 + static_cast<int64_t>(sizeof(Source) + sizeof(Found)));
    return static_cast<size_t>(round_up(rows + p.H * static_cast<int64_t>(sizeof(PoolSpan)) + (p.Q + p.P) * 4, 64));
  }
  Room(const PoolProblem& p, void* workspace, int64_t task) {
    auto* memory = static_cast<char*>(workspace) + static_cast<size_t>(task) * bytes(p);
    std::memset(memory, 0, bytes(p));
    sources = reinterpret_cast<Source*>(memory);
    spans = reinterpret_cast<PoolSpan*>(sources + count(p));
    found = reinterpret_cast<Found*>(spans + p.H);
    auto* rows = reinterpret_cast<float*>(found + count(p));
    for (int64_t i = 0; i < count(p); ++i, rows += 2 * row_size(p))
      sources[i] = {rows + margin(p), reinterpret_cast<int32_t*>(rows + row_size(p) + margin(p)), -1};
    column_parts = rows, row_parts = rows + p.Q;
    for (int64_t h = 0; h < p.H; ++h) spans[h] = outputs_of(height_of(p), h);
    for (int64_t q = 0; q < p.Q; ++q) column_parts[q] = part(counted(p, window_of(width_of(p), q)));
    for (int64_t i = 0; i < p.P; ++i)
      row_parts[i] = part(p.divisor ? p.divisor : counted(p, window_of(height_of(p), i)));
  }
  static float part(int64_t count) { return 1 / static_cast<float>(count); }
};
size_t workspace(const PoolProblem& p) { return static_cast<size_t>(num_threads()) * Room::bytes(p); }

/// kStep is the stride along rows, and kTaps the window's columns: 0 where they are not known before.
template <class T, class Gather, int kStep, int kTaps>
struct Rows {
  static_assert(kTaps <= Found::kPlaces);
  using Index = typename Gather::Index;
  static constexpr bool kIndexed = !std::is_same_v<Index, NoIndices>, kInWindow = std::is_same_v<Index, uint8_t>;
  const PoolProblem p;
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
    float* dy = to.dy;
    int32_t* indices = to.index;
    const T* from = static_cast<const T*>(args.dy) + row * p.Q;
    const Index* from_index = kIndexed ? static_cast<const Index*>(args.index) + row * p.Q : nullptr;
    cover(p.Q, [=](int64_t q, int64_t n) __attribute__((always_inline)) {
      store_lanes(dy + q, load_lanes(from + q, n), n);
      if constexpr (kIndexed) store_ints(indices + q, load_ints(from_index + q, n), n);
    });
  }

  /// Makes `to` the shares of the kRows rows of outputs from `row` on, which lie one after another; or adds them.
  template <int kRows>
  void add(float* to, int64_t row, const float* factors, bool first) {
    const int64_t Q = p.Q;
    const T* dy = static_cast<const T*>(args.dy) + row * Q;
    const float* parts = room.column_parts;
    Vec factor[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) factor[r] = broadcast(factors[r]);
    const auto share = [&](int64_t q, int64_t n) __attribute__((always_inline)) {
      Vec sum = load_lanes(dy + q, n) * factor[0];
#pragma GCC unroll 4
      for (int r = 1; r < kRows; ++r) sum = fma(load_lanes(dy + r * Q + q, n), factor[r], sum);
      return sum * load_lanes(parts + q, n);
    };
    if (first) {
      cover(Q, [&](int64_t q, int64_t n) __attribute__((always_inline)) { store_lanes(to + q, share(q, n), n); });
      return;
    }
    for (int64_t q = 0; q < Q; q += kLanes) {  // none of them twice
      const int64_t n = least(kLanes, Q - q);
      store_lanes(to + q, load_lanes(to + q, n) + share(q, n), n);
    }
  }

  /// The shares of the outputs of the plane's rows that look at the input row [d, h], as one row.
  int64_t add_all(int64_t plane, PoolSpan zs, int64_t d, int64_t h) {
    const PoolSpan is = room.spans[h];
    Source& source = room.sources[0];
    room.found[0] = {source.dy, source.index, {}};
    bool first = true;
    for (int64_t z = zs.begin; z < zs.end; ++z) {
      if (tap_of(window_of(depth, z), d) < 0) continue;
      const float part = p.divisor ? 1 : Room::part(counted(p, window_of(depth, z)));
      for (int64_t i = is.begin; i < is.end; first = false) {
        const int64_t row = (plane * p.Z + z) * p.P + i, count = height.dilation == 1 ? least(is.end - i, 3) : 1;
        float factors[3];
        for (int64_t r = 0; r < count; ++r) factors[r] = room.row_parts[i + r] * part;
        if (tap_of(window_of(height, i), h) < 0) {
          ++i;
          continue;
        }
        if (count == 3) add<3>(source.dy, row, factors, first);
        else if (count == 2) add<2>(source.dy, row, factors, first);
        else add<1>(source.dy, row, factors, first);
        i += count;
      }
    }
    return first ? 0 : 1;
  }

  /// Makes room.found the rows of outputs that look at the input row [d, h] of a plane, and returns their number; of
  /// means it is one, their sum.
  int64_t find(int64_t plane, PoolSpan zs, int64_t d, int64_t h) {
    if constexpr (!kIndexed) return add_all(plane, zs, d, h);
    const PoolSpan is = room.spans[h];
    int64_t count = 0;
    for (int64_t z = zs.begin; z < zs.end; ++z)
      for (int64_t i = is.begin; i < is.end; ++i) {
        const int64_t t = tap_of(window_of(depth, z), d), r = tap_of(window_of(height, i), h);
        if (t < 0 || r < 0) continue;
        Source& source = room.sources[(z & (depths - 1)) * heights + (i & (heights - 1))];
        take(source, (plane * p.Z + z) * p.P + i);
        const auto place = static_cast<int32_t>((t * p.R + r) * p.S);
        room.found[count++] = {source.dy, source.index, {place, place + 1, place + 2}};
      }
    return count;
  }

  /// What the inputs have that are `step` apart, the first by tap `s` of output `q`: at the places `at` of the image.
  FASTCONV_INLINE Vec gather(const Found* found, int64_t count, int64_t s, int64_t q, Ints at) const {
    Vec sum = zero();
    for (const Found* source = found; source != found + count; ++source)
#pragma GCC unroll 4
      for (int64_t tap = s, o = q; tap < (kTaps ? kTaps : p.S); tap += kStep ? kStep : step, --o) {
        const Vec dy = load(source->dy + o);
        if constexpr (kIndexed) {
          const int32_t known = kTaps ? source->place[tap] : source->place[0] + static_cast<int32_t>(tap);
          const Ints place = kInWindow ? Ints{} + known : at;
          sum = sum + Vec{load_ints(source->index + o) == place ? dy.v : zero().v};
        } else {
          sum = sum + dy;
        }
      }
    return sum;
  }

  /// Input row `row` of all planes, which is the row [d, h] of one, and which the outputs `zs` reach.
  void run(int64_t row, int64_t plane, PoolSpan zs, int64_t d, int64_t h) {
    const int64_t count = find(plane, zs, d, h), W = p.W, pad = p.pad_w, apart = kStep ? kStep : step;
    const Ints lane = lane_numbers() * static_cast<int32_t>(apart);
    const Found* found = room.found;
    const auto flat = static_cast<int32_t>((d * p.H + h) * W);
    T* dx = static_cast<T*>(args.out) + row * W;
    // The inputs from w on that are a step apart, the first of them read by tap `phase` of an output.
    const auto vector = [=, this](int64_t w, int64_t phase) __attribute__((always_inline)) {
      return gather(found, count, phase, (w + pad) / apart, lane + (flat + static_cast<int32_t>(w)));
    };
    if constexpr (kStep == 1) {
      cover(W, [=](int64_t w, int64_t n) __attribute__((always_inline)) { store_lanes(dx + w, vector(w, 0), n); });
      return;
    }
    if constexpr (kStep == 2) {
      const auto weave = [=](auto odd) __attribute__((always_inline)) {
        for (int64_t w = 0; w < W; w += 2 * kLanes) {
          const int64_t n = least(W - w, 2 * kLanes);
          const Vec a = vector(w, odd), b = vector(w + 1, 1 - odd);
          store_lanes(dx + w, Vec{in_turn<0>(a.v, b.v, Lanes{})}, least(n, kLanes));
          if (n > kLanes) store_lanes(dx + w + kLanes, Vec{in_turn<kLanes / 2>(a.v, b.v, Lanes{})}, n - kLanes);
        }
      };
      if (pad % 2) weave(std::integral_constant<int, 1>{});
      else weave(std::integral_constant<int, 0>{});
      return;
    }
    for (int64_t w = 0; w < W; w += apart * kLanes) {
      const int64_t n = least(W - w, apart * kLanes);
      for (int64_t first = 0; first < least(apart, n); ++first) {
        const Vec one = vector(w + first, (w + first + pad) % apart);
        for (int64_t i = first; i < n; i += apart) from_float(one.v[i / apart], dx + w + i);
      }
    }
  }

  /// The input rows `rows` of all planes.
  void run(Range rows) {
    int64_t h = rows.begin % p.H, d = rows.begin / p.H % p.D, plane = rows.begin / (p.H * p.D);
    PoolSpan zs = outputs_of(depth, d);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      run(row, plane, zs, d, h);
      if (++h < p.H) continue;
      h = 0;
      if (++d == p.D) d = 0, ++plane;
      zs = outputs_of(depth, d);
    }
  }
};

template <int kStep, int kTaps = 0>
void run_by(const PoolProblem& p, const PoolArgs& args) {
  const int64_t rows = p.N * p.C * p.D * p.H, tasks = least(rows, num_threads());
  with_gathers(p, [&](auto element, auto gather) {
    parallel_for(tasks, [&](int64_t task) {
      Rows<decltype(element), decltype(gather), kStep, kTaps> mine(p, args, task);
      mine.run(part_of(rows, tasks, task));
    });
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  if (p.stride_w == 1 && p.S == 3) run_by<1, 3>(p, args);
  else if (p.stride_w == 1) run_by<1>(p, args);
  else if (p.stride_w == 2 && p.S == 2) run_by<2, 2>(p, args);
  else if (p.stride_w == 2 && p.S == 3) run_by<2, 3>(p, args);
  else if (p.stride_w == 2) run_by<2>(p, args);
  else run_by<0>(p, args);
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_dgrad_direct_nchw)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
