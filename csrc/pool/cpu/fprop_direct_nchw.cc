// y[n,c,z,p,q] = mean or maximum over the window of x[n,c,d,h,w], images as they lie: vectors of neighbours in a row.
//
// An output row is made in two steps. The window's rows become one, column by column, between margins of what changes
// no result; then each output takes its columns from there, which for windows two apart are every second ones
// (weave.h). A row's last vector overlaps the one before: so no part of one is left. The floor is the bytes of x, y and
// the indices; the row of columns stays in L1. Work is cut by output rows of all planes.

#include "core/cpu/parallel.h"
#include "pool/cpu/reduce.h"
#include "pool/cpu/weave.h"
#include "pool/window.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) {
  if (const char* reason = why_not_vectors(p)) return reason;
  if (p.x_layout != Layout::kNchw || p.y_layout != Layout::kNchw) return "takes contiguous images only";
  if (p.adaptive) return "takes no adaptive windows";
  return nullptr;
}

constexpr int32_t kNowhere = INT32_MAX;
/// Rows of columns that are made before their outputs: a vector that lies across two that were just stored waits for
/// them to reach the cache.
constexpr int64_t kBatch = 4;

/// The windows' rows of one output row as one row of columns, and the keys of their maxima.
struct Line {
  float* values;
  int32_t* keys;
  int64_t plane;
  float divisor;
};

/// What a task keeps: lines, and the part of each output's divisor that is the row's.
struct Room {
  Line lines[kBatch];
  float* divisors;
  static int64_t margin(const PoolProblem& p) { return round_up(p.pad_w, kLanes); }
  static int64_t row_size(const PoolProblem& p) {
    const int64_t reached = most(p.Q, kLanes) * p.stride_w + (p.S - 1) * p.dilation_w;
    return margin(p) + round_up(most(p.W, reached) + 2 * kLanes, kLanes);
  }
  static int64_t elements(const PoolProblem& p) { return 2 * kBatch * row_size(p) + round_up(p.Q, kLanes); }
  template <class Reduction>
  Room(const PoolProblem& p, void* workspace, int64_t task, Reduction nothing) {
    auto* memory = static_cast<float*>(workspace) + task * elements(p);
    for (Line& line : lines) {
      auto* keys = reinterpret_cast<int32_t*>(memory + row_size(p));
      for (int64_t i = 0; i < row_size(p); ++i) memory[i] = nothing.value.v[0], keys[i] = kNowhere;
      line.values = memory + margin(p), line.keys = keys + margin(p);
      memory += 2 * row_size(p);
    }
    divisors = memory;
    for (int64_t q = 0; q < p.Q; ++q) divisors[q] = static_cast<float>(counted(p, window_of(width_of(p), q)));
  }
};
size_t workspace(const PoolProblem& p) {
  return static_cast<size_t>(num_threads() * Room::elements(p)) * sizeof(float);
}

/// Takes a column into an output. Of equal ones the one with the lower key, of NaN the one with the higher.
template <class T>
FASTCONV_INLINE void see_column(MaxAt<T>& best, Vec x, Ints key) {
  const auto is_nan = x.v != x.v, best_is_number = best.value.v == best.value.v;
  const auto taken =
      (x.v > best.value.v) | ((x.v == best.value.v) & (key < best.at)) | (is_nan & (best_is_number | (key > best.at)));
  best.value.v = taken ? x.v : best.value.v;
  best.at = taken ? key : best.at;
}

template <class T>
__attribute__((noinline)) Vec finish_row(Vec result, const Epilogue& e, int64_t channel, int64_t at, int64_t n) {
  if (e.scale) result = result * broadcast(static_cast<const float*>(e.scale)[channel]);
  if (e.shift) result = result + broadcast(static_cast<const float*>(e.shift)[channel]);
  if (e.residual) result = result + load_lanes(static_cast<const T*>(e.residual) + at, n);
  return activate(result, e.activation);
}

/// kStep is the stride along rows, and kTaps the window's columns: 0 where they are not known before.
template <class T, class Reduction, int kStep, int kTaps>
struct Rows {
  static constexpr bool kIndexed = kIsIndexed<Reduction>;
  static constexpr bool kInWindow = std::is_same_v<typename Reduction::Index, uint8_t>;
  const PoolProblem& p;
  const PoolArgs& args;
  Room room;

  Rows(const PoolProblem& problem, const PoolArgs& a, int64_t task)
      : p(problem), args(a), room(p, a.workspace, task, Reduction{}) {}

  /// The columns of the windows' rows: kRows of one image, or as many as there are where it is 0.
  template <int kRows>
  void fold(const Line& line, const T* plane, const PoolWindow& d, const PoolWindow& h) {
    // All that the loop reads in locals: what it stores could else be any of it.
    // To the rows after the next batch: hardware loses its way between rows, and rests while outputs are made.
    const int64_t next = 2 * kBatch * p.stride_h * p.W;
    const int64_t row = h.step * p.W;
    const T* first = plane + (d.input(d.taps.begin) * p.H + h.input(h.taps.begin)) * p.W;
    float* values = line.values;
    cover(p.W, [=, this](int64_t w, int64_t n) __attribute__((always_inline)) {
      Reduction one;
      if constexpr (kRows > 0) {
        see_all<kRows>(one, [=](int r) __attribute__((always_inline)) {
          if (r + 2 >= kRows) __builtin_prefetch(first + r * row + next + w);
          return load_lanes(first + r * row + w, n);
        });
      } else {
        const auto key_of = [&](int64_t t, int64_t r) {
          return static_cast<int32_t>(kInWindow ? (t * p.R + r) * p.S : (d.input(t) * p.H + h.input(r)) * p.W);
        };
        // Where nothing is larger than the least number there is, the first is the maximum.
        if constexpr (kIndexed) one.begin(key_of(d.taps.begin, h.taps.begin));
        for (int64_t t = d.taps.begin; t < d.taps.end; ++t)
          for (int64_t r = h.taps.begin; r < h.taps.end; ++r) {
            const T* x = plane + (d.input(t) * p.H + h.input(r)) * p.W + w;
            __builtin_prefetch(x + next);
            see_one(one, load_lanes(x, n), key_of(t, r));
          }
      }
      store_lanes(values + w, one.value, n);
      if constexpr (kIndexed) {
        if constexpr (!kInWindow) one.at += lane_numbers() + static_cast<int32_t>(w);
        store_ints(line.keys + w, one.at, n);
      }
    });
  }

  /// What a vector of outputs has in their columns number `column`, of those from `from` on.
  template <class Lane>
  FASTCONV_INLINE auto column_of(const Lane* from, int64_t column) const {
    const auto at = [=](int64_t i) __attribute__((always_inline)) {
      if constexpr (std::is_same_v<Lane, float>) return load(from + i).v;
      else return load_ints(from + i);
    };
    if constexpr (kStep == 1) {
      return at(column);
    } else if constexpr (kStep == 2) {
      if (column % 2) return every_second<1>(at(column - 1), at(column - 1 + kLanes), Lanes{});
      return every_second<0>(at(column), at(column + kLanes), Lanes{});
    } else {
      auto lanes = at(column);
      for (int i = 1; i < kLanes; ++i) lanes[i] = from[column + i * p.stride_w];
      return lanes;
    }
  }

  /// Output row `row` of all planes.
  void take(const Line& line, int64_t row) {
    const int64_t step = kStep ? kStep : p.stride_w;
    const float *columns = line.values - p.pad_w, *divisors = room.divisors;
    const int32_t* keys = line.keys - p.pad_w;
    T* out = static_cast<T*>(args.out) + row * p.Q;
    const Vec divisor = broadcast(line.divisor);
    const bool plain = !wants_epilogue(args.epilogue);
    const bool streamed = outgrows_caches(p.x_elements() + p.y_elements(), p.Q, args.out);
    cover(p.Q, [=, this, &line](int64_t q, int64_t n) __attribute__((always_inline)) {
      const int64_t at = row * p.Q + q;
      const float* values = columns + q * step;
      Reduction best;
      if constexpr (kTaps > 0) {
        see_all<kTaps>(best, [=, this](int s) __attribute__((always_inline)) { return Vec{column_of(values, s)}; });
      } else {
        if constexpr (kIndexed) best.begin(kNowhere);
        for (int64_t s = 0; s < p.S; ++s) {
          const Vec value{column_of(values, s * p.dilation_w)};
          if constexpr (kIndexed) {
            Ints key = column_of(keys + q * step, s * p.dilation_w);
            if constexpr (kInWindow) key += key == kNowhere ? Ints{} : Ints{} + static_cast<int32_t>(s);
            see_column(best, value, key);
          } else {
            best.see(value);
          }
        }
      }
      Vec result = best.result(divisor * load_lanes(divisors + q, n));
      if (!plain) result = finish_row<T>(result, args.epilogue, line.plane % p.C, at, n);
      write_lanes(out + q, result, n, streamed);
      if constexpr (kIndexed) store_ints(static_cast<typename Reduction::Index*>(args.index) + at, best.at, n);
    });
  }

  /// The output rows `rows` of all planes.
  void run(Range rows) {
    const PoolAxis depth = depth_of(p), height = height_of(p);
    int64_t i = rows.begin % p.P, z = rows.begin / p.P % p.Z, plane = rows.begin / (p.P * p.Z);
    int64_t ready = 0;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      Line& line = room.lines[ready];
      const PoolWindow d = window_of(depth, z), h = window_of(height, i);
      const T* x = static_cast<const T*>(args.x) + plane * p.D * p.H * p.W;
      const int64_t count = d.taps.count() == 1 && !kIndexed ? h.taps.count() : 0;
      if (count == 2) fold<kIndexed ? 0 : 2>(line, x, d, h);
      else if (count == 3) fold<kIndexed ? 0 : 3>(line, x, d, h);
      else fold<0>(line, x, d, h);
      line.plane = plane;
      line.divisor = static_cast<float>(p.divisor ? p.divisor : counted(p, d) * counted(p, h));
      if (++ready == kBatch || row + 1 == rows.end) {
        for (int64_t i = 0; i < ready; ++i) take(room.lines[i], row + 1 - ready + i);
        ready = 0;
      }
      if (++i < p.P) continue;
      i = 0;
      if (++z < p.Z) continue;
      z = 0, ++plane;
    }
    flush_streams();
  }
};

template <int kStep, int kTaps>
void run_by(const PoolProblem& p, const PoolArgs& args) {
  const int64_t rows = p.N * p.C * p.Z * p.P;
  const int64_t tasks = least(rows, num_threads());
  with_types(p, args, [&](auto element, auto reduction) {
    using Reduction = decltype(reduction);
    parallel_for(tasks, [&](int64_t task) {
      Rows<decltype(element), Reduction, kStep, kIsIndexed<Reduction> ? 0 : kTaps> mine(p, args, task);
      mine.run(part_of(rows, tasks, task));
    });
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  const bool dense = p.dilation_w == 1;
  if (p.stride_w == 1 && p.S == 3 && dense) run_by<1, 3>(p, args);
  else if (p.stride_w == 2 && p.S == 2 && dense) run_by<2, 2>(p, args);
  else if (p.stride_w == 2 && p.S == 3 && dense) run_by<2, 3>(p, args);
  else if (p.stride_w == 1) run_by<1, 0>(p, args);
  else if (p.stride_w == 2) run_by<2, 0>(p, args);
  else run_by<0, 0>(p, args);
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_fprop_direct_nchw)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
