// dw[c,r,s] = sum over n,p,q of dy[n,p,q,c] * x[n,h,w,c], h = p * stride - pad + r * dilation, and so for w.
//
// Vectors run over channels. A sweep goes along one row of dy with the sums of up to three filter rows in registers;
// each x vector serves every tap that reads it. A sweep's sums are added to those of kRows rows, these to pairs of
// floats. Work is cut by rows of dy, a set of sums for each part, added in the parts' order at the end: the same result
// whichever thread ran which part. One pass over x and dy. Filter widths 3, 5, 7 at stride 1 and 2, dense, have sweeps
// of their own.

#include "conv/cpu/depthwise.h"

namespace fastconv {
namespace {

constexpr int kTileQ = 4;
constexpr int64_t kRows = 16;
constexpr int kMaxSums = Vec::kRegisters == 32 ? 21 : 10;

/// One row of dy against some rows of x, for one vector of channels.
struct Sweep {
  const float* x;        // row of the first tap row, column 0
  const float* dy;       // row, column 0
  float* sums;           // [tap row][s][lane]
  int64_t x_row, pixel;  // strides: tap row to tap row of x; pixel to pixel of both
  int64_t rows, taps;
  int64_t W, stride, pad, dilation;
  int64_t begin, end;                // the q of the sweep
  int64_t inside_begin, inside_end;  // the q whose taps all exist
  int64_t channels;
};

template <int kTaps, int kStep, int kTapRows>
FASTCONV_INLINE void sweep_rows(const Sweep& t, const float* x, float* sums) {
  const int64_t pixel = t.pixel, x_row = t.x_row, W = t.W, pad = t.pad;
  Vec sum[kTapRows][kTaps];
#pragma GCC unroll 4
  for (int r = 0; r < kTapRows; ++r)
#pragma GCC unroll 8
    for (int s = 0; s < kTaps; ++s) sum[r][s] = zero();

  const auto edge = [&](int64_t q) {
    const Vec d = load(t.dy + q * pixel);
    const int64_t at = q * kStep - pad;
#pragma GCC unroll 8
    for (int s = 0; s < kTaps; ++s) {
      if (at + s < 0 || at + s >= W) continue;
#pragma GCC unroll 4
      for (int r = 0; r < kTapRows; ++r) sum[r][s] = fma(d, load(x + r * x_row + (at + s) * pixel), sum[r][s]);
    }
  };
  int64_t q = t.begin;
  for (; q < t.inside_begin && q < t.end; ++q) edge(q);
  for (; q + kTileQ <= t.inside_end && q + kTileQ <= t.end; q += kTileQ) {
    Vec d[kTileQ];
#pragma GCC unroll 4
    for (int j = 0; j < kTileQ; ++j) d[j] = in_register(load(t.dy + (q + j) * pixel));
#pragma GCC unroll 4
    for (int r = 0; r < kTapRows; ++r) {
      const float* from = x + r * x_row + (q * kStep - pad) * pixel;
#pragma GCC unroll 16
      for (int i = 0; i < (kTileQ - 1) * kStep + kTaps; ++i, from += pixel) {
        const Vec v = in_register(load(from));
#pragma GCC unroll 4
        for (int j = 0; j < kTileQ; ++j)
          if (const int s = i - j * kStep; s >= 0 && s < kTaps) sum[r][s] = fma(v, d[j], sum[r][s]);
      }
    }
  }
  for (; q < t.end; ++q) edge(q);

#pragma GCC unroll 4
  for (int r = 0; r < kTapRows; ++r)
#pragma GCC unroll 8
    for (int s = 0; s < kTaps; ++s) {
      float* to = sums + (r * kTaps + s) * kLanes;
      store(to, load(to) + sum[r][s]);
    }
}

template <int kTaps, int kStep>
void sweep(const Sweep& t) {
  constexpr int kMaxRows = kMaxSums / kTaps < 3 ? kMaxSums / kTaps : 3;
  const float* x = t.x;
  float* sums = t.sums;
  for (int64_t left = t.rows; left > 0;) {
    // Two and two rather than three and one: few sums at once would wait for each other.
    const int64_t rows = left < kMaxRows ? left : left == 4 && kMaxRows == 3 ? 2 : kMaxRows;
    if (rows == 1) sweep_rows<kTaps, kStep, 1>(t, x, sums);
    if constexpr (kMaxRows >= 2)
      if (rows == 2) sweep_rows<kTaps, kStep, 2>(t, x, sums);
    if constexpr (kMaxRows >= 3)
      if (rows == 3) sweep_rows<kTaps, kStep, 3>(t, x, sums);
    x += rows * t.x_row, sums += rows * kTaps * kLanes, left -= rows;
  }
}

/// Any filter width, stride and dilation; channels may be fewer than lanes.
void sweep_any(const Sweep& t) {
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t s = 0; s < t.taps; ++s) {
      Range q = taps_inside({0, 1, 0, s * t.dilation - t.pad, 0, t.stride, t.end, 0, 1}, 0, t.W);
      if (q.begin < t.begin) q.begin = t.begin;
      const float* x = t.x + r * t.x_row + (q.begin * t.stride + s * t.dilation - t.pad) * t.pixel;
      const float* dy = t.dy + q.begin * t.pixel;
      float* to = t.sums + (r * t.taps + s) * kLanes;
      Vec even = zero(), odd = zero();
      for (int64_t j = q.begin; j < q.end; ++j, x += t.stride * t.pixel, dy += t.pixel) {
        const Vec a = t.channels < kLanes ? load(x, t.channels) : load(x);
        const Vec b = t.channels < kLanes ? load(dy, t.channels) : load(dy);
        if (j & 1) odd = fma(a, b, odd);
        else even = fma(a, b, even);
      }
      store(to, load(to) + (even + odd));
    }
}

using RunSweep = void (*)(const Sweep&);

RunSweep sweep_for(const ConvProblem& p) {
  const int64_t kind = p.dilation_w == 1 && p.stride_w <= 2 ? p.S * 10 + p.stride_w : 0;
  switch (kind) {
    case 31: return sweep<3, 1>;
    case 32: return sweep<3, 2>;
    case 51: return sweep<5, 1>;
    case 52: return sweep<5, 2>;
    case 71: return sweep<7, 1>;
    case 72: return sweep<7, 2>;
    default: return sweep_any;
  }
}

int64_t sums_elements(const ConvProblem& p) { return round_up(p.C, kLanes) * p.R * p.S; }

/// What a part sums up, each [vector][r][s][lane]: some rows, and the pairs of all its rows.
struct Sums {
  float *rows, *total, *rest;
};
Sums sums_of(const ConvProblem& p, void* workspace, int64_t part) {
  const int64_t size = sums_elements(p);
  float* rows = static_cast<float*>(workspace) + 3 * part * size;
  return {rows, rows + size, rows + 2 * size};
}

void sum_part(const ConvProblem& p, const float* x, const float* dy, const Sums& sums, Range rows, Range vectors) {
  const int64_t taps = p.R * p.S;
  for (int64_t i = vectors.begin * taps * kLanes; i < vectors.end * taps * kLanes; i += kLanes)
    for (float* each : {sums.rows, sums.total, sums.rest}) store(each + i, zero());
  const Axis axis = fprop_axis(p.P, p.R, p.stride_h, p.pad_h, p.dilation_h);
  const RunSweep run_sweep = sweep_for(p);
  Sweep t;
  t.x_row = p.dilation_h * p.W * p.C, t.pixel = p.C;
  t.taps = p.S, t.W = p.W, t.stride = p.stride_w, t.pad = p.pad_w, t.dilation = p.dilation_w;
  const Range inside = all_taps_inside(p.Q, p.W, p.S, p.stride_w, p.pad_w, p.dilation_w);
  t.inside_begin = inside.begin, t.inside_end = inside.end;
  const int64_t stripes = divide_up(p.Q, kChain);
  const auto to_pairs = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * taps; i < end * taps; i += kLanes) {
      add_to_pair(sums.total + i, sums.rest + i, load(sums.rows + i));
      store(sums.rows + i, zero());
    }
  };
  const auto sum_row = [&](int64_t n, Range rows_now, int64_t channel, int64_t channel_end) {
    const int64_t row = rows_now.begin;
    const Range tap_rows = taps_inside(axis, row, p.H);
    t.rows = tap_rows.end - tap_rows.begin;
    const int64_t h = row * p.stride_h - p.pad_h + tap_rows.begin * p.dilation_h;
    for (int64_t c = channel; t.rows > 0 && c < channel_end; c += kLanes) {
      t.x = x + (n * p.H + h) * p.W * p.C + c;
      t.dy = dy + (n * p.P + row) * p.Q * p.C + c;
      t.sums = sums.rows + (c / kLanes * taps + tap_rows.begin * p.S) * kLanes;
      t.channels = channel_end - c;
      for (int64_t stripe = 0; stripe < stripes; ++stripe) {
        const Range q = part_of(p.Q, stripes, stripe);
        t.begin = q.begin, t.end = q.end;
        if (t.channels < kLanes) sweep_any(t);
        else run_sweep(t);
        if ((stripe + 1) % kRows == 0) to_pairs(c, c + kLanes);
      }
    }
    if ((row + 1) % kRows != 0 && row + 1 != p.P && n * p.P + row + 1 != rows.end) return;
    to_pairs(channel, round_up(channel_end, kLanes));
  };
  const bool in_order = in_memory_order(p.C * (p.H * p.W + p.P * p.Q), p.N);
  for_each_row(rows, p.P, vectors, p.C, p.R * p.W + p.Q, in_order, sum_row);
}

size_t workspace(const ConvProblem& p) {
  const Cut cut = cut_for(p.N * p.P, divide_up(p.C, kLanes), num_threads());
  return static_cast<size_t>(3 * cut.row_parts * sums_elements(p)) * sizeof(float);
}

/// The taps of the channel vectors `vectors`, summed over the parts.
void write_sums(const ConvProblem& p, const ConvArgs& args, int64_t parts, Range vectors) {
  const int64_t taps = p.R * p.S;
  for (int64_t v = vectors.begin; v < vectors.end; ++v) {
    const int64_t channels = p.C - v * kLanes < kLanes ? p.C - v * kLanes : kLanes;
    for (int64_t tap = 0; tap < taps; ++tap) {
      Vec sum = zero(), rest = zero();
      for (int64_t part = 0; part < parts; ++part) {
        const Sums sums = sums_of(p, args.workspace, part);
        sum = sum + load(sums.total + (v * taps + tap) * kLanes);
        rest = rest + load(sums.rest + (v * taps + tap) * kLanes);
      }
      float total[kLanes];
      store(total, sum + rest);
      float* to = static_cast<float*>(args.w.data) + args.w.offset(v * kLanes, 0, 0, 0, tap / p.S, tap % p.S);
      for (int64_t lane = 0; lane < channels; ++lane) to[lane * args.w.stride_g] = total[lane];
    }
  }
}

void run(const ConvProblem& problem, const ConvArgs& args) {
  const int64_t vectors = divide_up(problem.C, kLanes);
  const Cut cut = cut_for(problem.N * problem.P, vectors, num_threads());
  parallel_for(cut.row_parts * cut.channel_parts, [&](int64_t task) {
    const ConvProblem p = problem;  // reading it from another thread's stack would share lines that thread writes
    const int64_t part = task / cut.channel_parts;
    const Range mine = part_of(vectors, cut.channel_parts, task % cut.channel_parts);
    sum_part(p, static_cast<const float*>(args.x), static_cast<const float*>(args.dy), sums_of(p, args.workspace, part),
             part_of(p.N * p.P, cut.row_parts, part), mine);
    if (cut.row_parts == 1) write_sums(p, args, 1, mine);
  });
  if (cut.row_parts > 1) write_sums(problem, args, cut.row_parts, {0, vectors});
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_wgrad_depthwise_nhwc)) = {
    .algorithm = Algorithm::kDepthwise, .why_not = depthwise_why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
