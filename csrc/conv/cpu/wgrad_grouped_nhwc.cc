// dw[k,c,r,s] = sum over n,p,q of dy[n,p,q,k] * x[n,h,w,c], c in k's group, h = p * stride - pad + r * dilation, so for
// w.
//
// A vector holds kLanes output channels k. A sweep goes over a band of rows with the sums of one filter row and kChunk
// channels c in registers; the c-th channel of every lane's group comes from a permutation of an x vector, or from a
// broadcast in groups as wide as a vector, and serves every tap. Bands are short and stay in L1; their sums go to
// pairs. Work is cut by output channels, or by rows with partial sums that are added in the parts' order: the same sums
// whichever thread ran which part. Filter width 3 at stride 1 and 2, dense, has sweeps of its own, and the dense 3x3
// filter at unit stride a file (wgrad_grouped_3x3.h).

#include "conv/cpu/grouped.h"
#include "conv/cpu/padded.h"
#include "conv/cpu/wgrad_grouped_3x3.h"

namespace fastconv {
namespace {

constexpr int kChunk = Vec::kRegisters == 32 ? 4 : 2;
constexpr int kTileQ = Vec::kRegisters == 32 ? 8 : 4;

/// A band of rows for one output vector, one filter row and kChunk channels of the group.
struct Sweep {
  const float* x;       // the row that the band's first row reads, column 0, at the group's (or vector's) first channel
  const float* dy;      // the band's first row, column 0
  float *total, *rest;  // [channel of the chunk][s][lane]
  int64_t x_row, dy_row, x_pixel, dy_pixel;  // in elements; x_row: between the inputs of neighbouring dy rows
  int64_t rows, taps;
  int64_t W, stride, pad, dilation;
  int64_t begin, end;    // the q of the sweep
  int64_t wide, narrow;  // its tiles
  int64_t chunk;         // first channel
  LaneIndex lanes[kChunk];
};

template <int kTile>
struct Width {
  static constexpr int kValue = kTile;
};

template <bool kPermute>
FASTCONV_INLINE void inputs(const Sweep& t, const float* x, Vec* v) {
  const Vec all = kPermute ? in_register(load(x)) : zero();
#pragma GCC unroll 4
  for (int c = 0; c < kChunk; ++c) v[c] = kPermute ? permute(all, t.lanes[c]) : in_register(broadcast(x[t.chunk + c]));
}

/// Rows in `wide` tiles of kTile outputs, then `narrow` of one less.
template <int kTile, int kTaps, int kStep, bool kPermute>
void sweep(const Sweep& t) {
  const int64_t x_pixel = t.x_pixel, dy_pixel = t.dy_pixel, W = t.W, pad = t.pad, wide = t.wide, narrow = t.narrow,
                rows = t.rows;
  Vec sum[kTaps][kChunk];
#pragma GCC unroll 8
  for (int s = 0; s < kTaps; ++s)
#pragma GCC unroll 4
    for (int c = 0; c < kChunk; ++c) sum[s][c] = zero();
  for (int64_t row = 0; row < rows; ++row) {
    const float* x = t.x + row * t.x_row;
    const float* dy = t.dy + row * t.dy_row;
    int64_t q = t.begin;
    const auto tile = [&](auto width) {
      constexpr int kWidth = decltype(width)::kValue;
      const int64_t at = q * kStep - pad;  // the first pixel of the tile's span, whose pixels [-at, W - at) exist
      Vec d[kWidth];
#pragma GCC unroll 8
      for (int j = 0; j < kWidth; ++j) d[j] = in_register(load(dy + (q + j) * dy_pixel));
      const float* from = x + at * x_pixel;
#pragma GCC unroll 32
      for (int i = 0; i < (kWidth - 1) * kStep + kTaps; ++i, from += x_pixel) {
        if (i < -at || i >= W - at) continue;
        Vec v[kChunk];
        inputs<kPermute>(t, from, v);
#pragma GCC unroll 8
        for (int j = 0; j < kWidth; ++j)
          if (const int s = i - j * kStep; s >= 0 && s < kTaps) {
#pragma GCC unroll 4
            for (int c = 0; c < kChunk; ++c) sum[s][c] = fma(v[c], d[j], sum[s][c]);
          }
      }
      q += kWidth;
    };
    for (int64_t i = 0; i < wide; ++i) tile(Width<kTile>{});
    if constexpr (kTile > 1)
      for (int64_t i = 0; i < narrow; ++i) tile(Width<kTile - 1>{});
  }
#pragma GCC unroll 8
  for (int s = 0; s < kTaps; ++s)
#pragma GCC unroll 4
    for (int c = 0; c < kChunk; ++c) {
      const int64_t at = (c * kTaps + s) * kLanes;
      add_to_pair(t.total + at, t.rest + at, sum[s][c]);
    }
}

/// Any filter width, stride and dilation.
template <bool kPermute>
void sweep_any(const Sweep& t) {
  for (int64_t s = 0; s < t.taps; ++s) {
    Range q = taps_inside({0, 1, 0, s * t.dilation - t.pad, 0, t.stride, t.end, 0, 1}, 0, t.W);
    if (q.begin < t.begin) q.begin = t.begin;
    Vec sum[kChunk];
    for (int c = 0; c < kChunk; ++c) sum[c] = zero();
    for (int64_t row = 0; row < t.rows; ++row) {
      const float* x = t.x + row * t.x_row + (q.begin * t.stride + s * t.dilation - t.pad) * t.x_pixel;
      const float* dy = t.dy + row * t.dy_row + q.begin * t.dy_pixel;
      for (int64_t j = q.begin; j < q.end; ++j, x += t.stride * t.x_pixel, dy += t.dy_pixel) {
        Vec v[kChunk];
        inputs<kPermute>(t, x, v);
        const Vec d = load(dy);
        for (int c = 0; c < kChunk; ++c) sum[c] = fma(v[c], d, sum[c]);
      }
    }
    for (int c = 0; c < kChunk; ++c) {
      const int64_t at = (c * t.taps + s) * kLanes;
      add_to_pair(t.total + at, t.rest + at, sum[c]);
    }
  }
}

using RunSweep = void (*)(const Sweep&);

template <int kTaps, int kStep, bool kPermute>
RunSweep sweep_of_width(int64_t width) {
  switch (width) {
    case 1: return sweep<1, kTaps, kStep, kPermute>;
    case 2: return sweep<2, kTaps, kStep, kPermute>;
    case 3: return sweep<3, kTaps, kStep, kPermute>;
    case 4: return sweep<4, kTaps, kStep, kPermute>;
    case 5: return sweep<5, kTaps, kStep, kPermute>;
    case 6: return sweep<6, kTaps, kStep, kPermute>;
    case 7: return sweep<7, kTaps, kStep, kPermute>;
    default: return sweep<8, kTaps, kStep, kPermute>;
  }
}

/// `width`: of the wide tiles.
template <bool kPermute>
RunSweep sweep_for(const ConvProblem& p, int64_t width) {
  const int64_t kind = p.dilation_w == 1 && p.stride_w <= 2 ? p.S * 10 + p.stride_w : 0;
  switch (kind) {
    case 31: return sweep_of_width<3, 1, kPermute>(width);
    case 32: return sweep_of_width<3, 2, kPermute>(width);
    default: return sweep_any<kPermute>;
  }
}

/// Rows of a band as a task copies them, [row][pixel][channel of the group or lane]: pixels of wide images share few
/// sets of L1, and a band is read once for every filter row and chunk. Narrow groups have too few of these to gain.
bool copies_bands(const ConvProblem& p) { return p.C_per_group() >= 16; }

int64_t band_rows_of(const ConvProblem& p) {
  const int64_t row_bytes = (p.stride_h * p.W + p.Q) * kLanes * static_cast<int64_t>(sizeof(float));
  const int64_t fitting = static_cast<int64_t>(l1_bytes()) * 2 / 3 / row_bytes - p.R / 2;
  const int64_t short_enough = kChain / (p.Q > 0 ? p.Q : 1), rows = fitting < short_enough ? fitting : short_enough;
  return rows > 1 ? rows : 1;
}

int64_t x_copy_rows(const ConvProblem& p) { return (band_rows_of(p) - 1) * p.stride_h + (p.R - 1) * p.dilation_h + 1; }

int64_t copies_elements(const ConvProblem& p) {
  if (is_dense_3x3(p)) return copies_3x3(p);
  if (!copies_bands(p)) return 0;
  return round_up(x_copy_rows(p) * p.W * x_width(p) + band_rows_of(p) * p.Q * kLanes, 16);
}

/// Adds to the sums of the vectors `vectors` what the rows `rows` of dy, counted over all images, contribute.
void sum_part(const ConvProblem& p, const float* x, const float* dy, float* sums, float* copies, Range rows,
              Range vectors) {
  const int64_t group = p.C_per_group(), chunk_size = p.S * kChunk * kLanes, chunks = group / kChunk;
  const bool permute = group < kLanes;
  Sweep t;
  const bool copy = copies_bands(p);
  float *x_copy = copies, *dy_copy = copies + (copy ? x_copy_rows(p) * p.W * x_width(p) : 0);
  t.x_pixel = copy ? x_width(p) : p.C, t.dy_pixel = copy ? kLanes : p.K;
  t.x_row = p.stride_h * p.W * t.x_pixel, t.dy_row = p.Q * t.dy_pixel;
  t.taps = p.S, t.W = p.W, t.stride = p.stride_w, t.pad = p.pad_w, t.dilation = p.dilation_w;
  const int64_t band_rows = band_rows_of(p), stripes = divide_up(p.Q, kChain);
  const auto sweep_band = [&](int64_t n, Range band, int64_t v) {
    const int64_t k = v * kLanes, first_channel = permute ? k : k / group * group;
    const float* x_band = x + n * p.H * p.W * p.C + first_channel;  // row 0 of the image
    const float* dy_band = dy + (n * p.P + band.begin) * p.Q * p.K + k;
    if (copy) {
      const int64_t from = band.begin * p.stride_h - p.pad_h, last = from + x_copy_rows(p);
      const int64_t begin = from > 0 ? from : 0, end = last < p.H ? last : p.H;
      if (begin < end) copy_pixels(x_band + begin * p.W * p.C, x_copy, (end - begin) * p.W, p.C, t.x_pixel);
      copy_pixels(dy_band, dy_copy, (band.end - band.begin) * p.Q, p.K, kLanes);
      x_band = x_copy - begin * p.W * t.x_pixel, dy_band = dy_copy;
    }
    for (int64_t r = 0; r < p.R; ++r) {
      const int64_t from = r * p.dilation_h - p.pad_h;
      Range mine = taps_inside({0, 1, 0, from, 0, p.stride_h, p.P, 0, 1}, 0, p.H);  // the rows whose tap r exists
      if (mine.begin < band.begin) mine.begin = band.begin;
      if (mine.end > band.end) mine.end = band.end;
      if (mine.begin >= mine.end) continue;
      t.rows = mine.end - mine.begin;
      t.x = x_band + (mine.begin * p.stride_h + from) * p.W * t.x_pixel;
      t.dy = dy_band + (mine.begin - band.begin) * t.dy_row;
      LaneIndex lane = first_of_group(permute ? group : kLanes);
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        for (int c = 0; c < kChunk; ++c, lane = next(lane)) t.lanes[c] = lane;
        t.chunk = chunk * kChunk;
        t.total = sums + sums_of(p, v) + (r * chunks + chunk) * chunk_size;
        t.rest = t.total + p.w_elements();
        for (int64_t stripe = 0; stripe < stripes; ++stripe) {
          const Range q = part_of(p.Q, stripes, stripe);
          const int64_t width = q.end - q.begin, tiles = divide_up(width, kTileQ);
          t.begin = q.begin, t.end = q.end;
          t.wide = width % tiles ? width % tiles : tiles, t.narrow = tiles - t.wide;
          const int64_t widest = divide_up(width, tiles);
          (permute ? sweep_for<true>(p, widest) : sweep_for<false>(p, widest))(t);
        }
      }
    }
  };
  // A vector after the other over all rows, so that its sums stay in L1 or L2.
  for (int64_t v = vectors.begin; v < vectors.end; ++v)
    for (int64_t begin = rows.begin; begin < rows.end;) {
      const int64_t n = begin / p.P, image_end = (n + 1) * p.P;
      const int64_t end = rows.end < image_end ? rows.end : image_end;
      for (int64_t row = begin; row < end; row += band_rows)
        sweep_band(n, {row - n * p.P, (row + band_rows < end ? row + band_rows : end) - n * p.P}, v);
      begin = end;
    }
}

/// The rows that a part walks, over all images: of x for a dense 3x3 filter, else of dy.
int64_t rows_walked(const ConvProblem& p) { return p.N * (is_dense_3x3(p) ? p.H : p.P); }

/// Output channels first: parts of their own need no sums of sums, and nothing but the sums is written.
Cut wgrad_cut(const ConvProblem& p) {
  const int64_t vectors = p.K / kLanes, threads = num_threads();
  return vectors % threads == 0 ? Cut{1, threads} : cut_for(rows_walked(p), vectors, threads);
}

size_t workspace(const ConvProblem& p) {
  const Cut cut = wgrad_cut(p);
  const int64_t tasks = cut.row_parts * cut.channel_parts;
  return static_cast<size_t>(2 * cut.row_parts * p.w_elements() + tasks * copies_elements(p)) * sizeof(float);
}

void write_sums(const ConvProblem& p, const float* sums, int64_t parts, const Filter& dw, int64_t v) {
  const int64_t group = p.C_per_group(), size = p.w_elements();
  int64_t place[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane)
    place[lane] = dw.offset((v * kLanes + lane) / group, (v * kLanes + lane) % group, 0, 0, 0, 0);
  const float* from = sums + sums_of(p, v);
  for (int64_t r = 0; r < p.R; ++r)
    for (int64_t c = 0; c < group; ++c)
      for (int64_t s = 0; s < p.S; ++s, from += kLanes) {
        Vec sum = load(from), rest = load(from + size);
        for (int64_t part = 1; part < parts; ++part) {
          sum = sum + load(from + 2 * part * size);
          rest = rest + load(from + (2 * part + 1) * size);
        }
        float total[kLanes];
        store(total, sum + rest);
        float* to = static_cast<float*>(dw.data) + dw.offset(0, 0, c, 0, r, s);
        for (int64_t lane = 0; lane < kLanes; ++lane) to[place[lane]] = total[lane];
      }
}

const char* why_not(const ConvProblem& p) {
  if (const char* reason = grouped_why_not(p)) return reason;
  return copies_bands(p) ? padded_copy_why_not(p) : nullptr;
}

void run(const ConvProblem& problem, const ConvArgs& args) {
  const Cut cut = wgrad_cut(problem);
  const int64_t vectors = problem.K / kLanes;
  float* sums = static_cast<float*>(args.workspace);
  parallel_for(cut.row_parts * cut.channel_parts, [&](int64_t task) {
    const ConvProblem p = problem;  // reading it from another thread's stack would share lines that thread writes
    const int64_t part = task / cut.channel_parts;
    const Range mine = part_of(vectors, cut.channel_parts, task % cut.channel_parts);
    float* own = sums + 2 * part * p.w_elements();
    for (int64_t i = sums_of(p, mine.begin); i < sums_of(p, mine.end); i += kLanes)
      store(own + i, zero()), store(own + p.w_elements() + i, zero());
    (is_dense_3x3(p) ? sum_part_3x3 : sum_part)(p, static_cast<const float*>(args.x),
                                                static_cast<const float*>(args.dy), own,
                                                sums + 2 * cut.row_parts * p.w_elements() + task * copies_elements(p),
                                                part_of(rows_walked(p), cut.row_parts, part), mine);
    if (cut.row_parts == 1)
      for (int64_t v = mine.begin; v < mine.end; ++v) write_sums(p, sums, 1, args.w, v);
  });
  if (cut.row_parts > 1) parallel_for(vectors, [&](int64_t v) { write_sums(problem, sums, cut.row_parts, args.w, v); });
}

}  // namespace

FASTCONV_DEFINE(Conv, FASTCONV_NAME(conv_wgrad_grouped_nhwc)) = {
    .algorithm = Algorithm::kGrouped, .why_not = why_not, .run = run, .workspace = workspace};

}  // namespace fastconv
