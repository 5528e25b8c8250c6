// dx[n,c,d,h,w] = sum over the outputs whose windows look at the input of dy[n,c,z,p,q] / divisor, images as they lie.
//
// A row of dx is gathered in columns by phases of the stride (columns.h): a tap adds a row of dy to consecutive places.
// Then the phases are woven into the row. The floor is the bytes of dy and dx. Work is cut by input rows of all planes.

#include "pool/cpu/columns.h"

namespace fastconv {
namespace {

const char* why_not(const PoolProblem& p) {
  if (const char* reason = why_not_vectors(p)) return reason;
  if (p.x_layout != Layout::kNchw || p.y_layout != Layout::kNchw) return "takes contiguous images only";
  if (p.adaptive) return "takes no adaptive windows";
  if (p.mode != PoolMode::kAvg) return "takes means only";
  return nullptr;
}

/// What a task keeps: a row's columns, and the part of each output's divisor that is the row's.
struct Room {
  float *columns, *divisors;
  static int64_t elements(const PoolProblem& p) { return Columns(width_of(p)).size() + round_up(p.Q, kLanes); }
  Room(const PoolProblem& p, void* workspace, int64_t task) {
    columns = static_cast<float*>(workspace) + task * elements(p);
    divisors = columns + Columns(width_of(p)).size();
  }
};
size_t workspace(const PoolProblem& p) {
  return static_cast<size_t>(num_threads() * Room::elements(p)) * sizeof(float);
}

template <class T>
struct Rows {
  const PoolProblem& p;
  const PoolArgs& args;
  const Columns columns;
  const Room room;

  Rows(const PoolProblem& problem, const PoolArgs& a, int64_t task)
      : p(problem), args(a), columns(width_of(problem)), room(problem, a.workspace, task) {
    for (int64_t q = 0; q < p.Q; ++q) room.divisors[q] = static_cast<float>(counted(p, window_of(columns.axis, q)));
  }

  /// Adds what the outputs of row `at` give to the columns of a row that their windows meet.
  void add(int64_t at, float divisor) {
    const T* dy = static_cast<const T*>(args.dy) + at;
    const Ints lane = lane_numbers();
    for (int64_t q = 0; q < p.Q; q += kLanes) {
      const int64_t n = least(kLanes, p.Q - q);
      Vec share = div(load_lanes(dy + q, n), broadcast(divisor) * load_lanes(room.divisors + q, n));
      if (n < kLanes) share.v = lane < Ints{} + static_cast<int32_t>(n) ? share.v : zero().v;
      for (int64_t s = 0; s < p.S; ++s) {
        float* to = room.columns + columns.of_tap(s) + q;
        store(to, load(to) + share);
      }
    }
  }

  /// Input row `row` of all planes.
  void run(int64_t row) {
    const PoolAxis depth = depth_of(p), height = height_of(p);
    const int64_t plane = row / (p.D * p.H), d = row / p.H % p.D, h = row % p.H;
    const PoolSpan zs = outputs_of(depth, d), is = outputs_of(height, h);
    for (int64_t i = 0; i < columns.size(); ++i) room.columns[i] = 0;
    for (int64_t z = zs.begin; z < zs.end; ++z)
      for (int64_t i = is.begin; i < is.end; ++i) {
        const int64_t rows = counted(p, window_of(depth, z)) * counted(p, window_of(height, i));
        add(((plane * p.Z + z) * p.P + i) * p.Q, static_cast<float>(p.divisor ? p.divisor : rows));
      }
    weave(static_cast<T*>(args.out) + row * p.W);
  }

  void weave(T* dx) const {
    int64_t w = 0;
    if (p.stride_w == 1)
      for (; w < p.W; w += kLanes)
        store_lanes(dx + w, load(room.columns + columns.of_input(w)), least(kLanes, p.W - w));
    if (p.stride_w == 2)
      for (; w + 2 * kLanes <= p.W; w += 2 * kLanes) {
        const Vec even = load(room.columns + columns.of_input(w)), odd = load(room.columns + columns.of_input(w + 1));
        store(dx + w, Vec{in_turn<0>(even.v, odd.v, Lanes{})});
        store(dx + w + kLanes, Vec{in_turn<kLanes / 2>(even.v, odd.v, Lanes{})});
      }
    for (; w < p.W; ++w) from_float(room.columns[columns.of_input(w)], dx + w);
  }
};

void run(const PoolProblem& p, const PoolArgs& args) {
  const int64_t rows = p.N * p.C * p.D * p.H;
  const int64_t tasks = least(rows, num_threads());
  with_vector_type(p.dtype, [&](auto element) {
    parallel_for(tasks, [&](int64_t task) {
      Rows<decltype(element)> mine(p, args, task);
      const Range range = part_of(rows, tasks, task);
      for (int64_t row = range.begin; row < range.end; ++row) mine.run(row);
    });
  });
}

}  // namespace

FASTCONV_DEFINE(Pool, FASTCONV_NAME(pool_dgrad_direct_nchw)) = {
    .algorithm = Algorithm::kDirect, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
