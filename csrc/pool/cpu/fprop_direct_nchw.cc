// y[n,c,z,p,q] = mean or maximum over the window of x[n,c,d,h,w], images as they lie: vectors of neighbours in a row.
//
// An output row is made in two steps. The window's rows become one, each column by itself, and lie by phases of the
// stride (columns.h); then each output takes its columns from there. The floor is the bytes of x, y and the indices; a
// row of columns stays in L1. Work is cut by output rows of all planes.

#include "pool/cpu/columns.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) {
  if (const char* reason = why_not_vectors(p)) return reason;
  if (p.x_layout != Layout::kNchw || p.y_layout != Layout::kNchw) return "takes contiguous images only";
  if (p.adaptive) return "takes no adaptive windows";
  return nullptr;
}

constexpr int32_t kNowhere = INT32_MAX;

/// What a task keeps: columns, the keys of their maxima, and the part of each output's divisor that is the row's.
struct Room {
  float* values;
  int32_t* keys;
  float* divisors;
  static int64_t elements(const PoolProblem& p) { return 2 * Columns(width_of(p)).size() + round_up(p.Q, kLanes); }
  Room(const PoolProblem& p, void* workspace, int64_t task) {
    values = static_cast<float*>(workspace) + task * elements(p);
    keys = reinterpret_cast<int32_t*>(values) + Columns(width_of(p)).size();
    divisors = values + 2 * Columns(width_of(p)).size();
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
FASTCONV_INLINE Vec finish_row(Vec result, const Epilogue& e, int64_t channel, const T* residual, int64_t n) {
  if (e.scale) result = result * broadcast(static_cast<const float*>(e.scale)[channel]);
  if (e.shift) result = result + broadcast(static_cast<const float*>(e.shift)[channel]);
  if (residual) result = result + load_lanes(residual, n);
  return activate(result, e.activation);
}

template <class T, class Reduction>
struct Rows {
  static constexpr bool kIndexed = !std::is_same_v<typename Reduction::Index, NoIndices>;
  static constexpr bool kInWindow = std::is_same_v<typename Reduction::Index, uint8_t>;
  const PoolProblem& p;
  const PoolArgs& args;
  const Columns columns;
  const Room room;

  Rows(const PoolProblem& problem, const PoolArgs& a, int64_t task)
      : p(problem), args(a), columns(width_of(problem)), room(problem, a.workspace, task) {
    const float nothing = std::is_same_v<Reduction, Sum> ? 0 : -__builtin_inff();
    for (int64_t i = 0; i < columns.size(); ++i) room.values[i] = nothing, room.keys[i] = kNowhere;
    for (int64_t q = 0; q < p.Q; ++q) room.divisors[q] = static_cast<float>(counted(p, window_of(columns.axis, q)));
  }

  /// The columns [w, w + 2 * kLanes) of the windows' rows, of which `n` exist.
  void fold(const T* plane, const PoolWindow& d, const PoolWindow& h, int64_t w, int64_t n) {
    Reduction a, b;
    const int64_t n_a = least(n, kLanes), n_b = least(n - n_a, kLanes);
    const auto key_of = [&](int64_t t, int64_t r) {
      return static_cast<int32_t>(kInWindow ? (t * p.R + r) * p.S : (d.input(t) * p.H + h.input(r)) * p.W);
    };
    // Where nothing is larger than the least number there is, the first is the maximum.
    const int32_t first = key_of(d.taps.begin, h.taps.begin);
    if constexpr (kIndexed) a.begin(first), b.begin(first);
    for (int64_t t = d.taps.begin; t < d.taps.end; ++t)
      for (int64_t r = h.taps.begin; r < h.taps.end; ++r) {
        const int64_t row = d.input(t) * p.H + h.input(r);
        const int32_t key = key_of(t, r);
        const T* x = plane + row * p.W + w;
        __builtin_prefetch(x + p.stride_h * p.W);  // of the next output row: hardware loses its way between rows
        a.see(load_lanes(x, n_a), key);
        if (n_b) b.see(load_lanes(x + kLanes, n_b), key);
      }
    const Ints lane = lane_numbers();
    if (n < 2 * kLanes && !std::is_same_v<Reduction, Sum>) {
      const Vec nothing = broadcast(-__builtin_inff());
      a.value.v = lane < Ints{} + static_cast<int32_t>(n_a) ? a.value.v : nothing.v;
      b.value.v = lane < Ints{} + static_cast<int32_t>(n_b) ? b.value.v : nothing.v;
    }
    put(columns, room.values, w, a.value.v, b.value.v, n);
    if constexpr (kIndexed) {
      if constexpr (!kInWindow) {
        const Ints column = lane + static_cast<int32_t>(w);
        a.at += column, b.at += column + kLanes;
      }
      if (n < 2 * kLanes) {
        a.at = lane < Ints{} + static_cast<int32_t>(n_a) ? a.at : Ints{} + kNowhere;
        b.at = lane < Ints{} + static_cast<int32_t>(n_b) ? b.at : Ints{} + kNowhere;
      }
      put(columns, room.keys, w, a.at, b.at, n);
    }
  }

  void take(int64_t channel, int64_t row, float divisor) {
    for (int64_t q = 0; q < p.Q; q += kLanes) {
      const int64_t n = least(kLanes, p.Q - q), at = row * p.Q + q;
      Reduction best;
      if constexpr (kIndexed) best.begin(kNowhere);
      for (int64_t s = 0; s < p.S; ++s) {
        const int64_t from = columns.of_tap(s) + q;
        if constexpr (kIndexed) {
          Ints key;
          std::memcpy(&key, room.keys + from, sizeof(key));
          if constexpr (kInWindow) key += key == kNowhere ? Ints{} : Ints{} + static_cast<int32_t>(s);
          see_column(best, load(room.values + from), key);
        } else {
          best.see(load(room.values + from), 0);
        }
      }
      const Vec result = best.result(broadcast(divisor) * load_lanes(room.divisors + q, n));
      const T* residual = args.epilogue.residual ? static_cast<const T*>(args.epilogue.residual) + at : nullptr;
      store_lanes(static_cast<T*>(args.out) + at, finish_row(result, args.epilogue, channel, residual, n), n);
      if constexpr (kIndexed) store_ints(static_cast<typename Reduction::Index*>(args.index) + at, best.at, n);
    }
  }

  /// Output row `row` of all planes.
  void run(int64_t row) {
    const int64_t plane = row / (p.Z * p.P);
    const PoolWindow d = window_of(depth_of(p), row / p.P % p.Z), h = window_of(height_of(p), row % p.P);
    const T* x = static_cast<const T*>(args.x) + plane * p.D * p.H * p.W;
    for (int64_t w = 0; w < p.W; w += 2 * kLanes) fold(x, d, h, w, least(2 * kLanes, p.W - w));
    const int64_t rows = counted(p, d) * counted(p, h);
    take(plane % p.C, row, static_cast<float>(p.divisor ? p.divisor : rows));
  }
};

void run(const PoolProblem& p, const PoolArgs& args) {
  const int64_t rows = p.N * p.C * p.Z * p.P;
  const int64_t tasks = least(rows, num_threads());
  with_types(p, args, [&](auto element, auto reduction) {
    parallel_for(tasks, [&](int64_t task) {
      Rows<decltype(element), decltype(reduction)> mine(p, args, task);
      const Range range = part_of(rows, tasks, task);
      for (int64_t row = range.begin; row < range.end; ++row) mine.run(row);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_fprop_direct_nchw)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
