// The plain sums of a few outputs of a 3x3 convolution of unit stride, for those that transforms do not give.
//
// out[r][s][lane] = sum over taps and the channels c of k's group of x[n, h, w, c] * w[k, c, tap], where a tap lies
// inside the image. Slow, and for tiles that hold something out of the ordinary alone.
#pragma once

#include "conv/conv.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"

namespace fastconv {
namespace {

/// Outputs of one tile: rows i, i + dilation_h, ... and columns j, j + dilation_w, ... of image n.
struct PlainTile {
  int64_t n, i, j;
  int64_t rows, columns;  // how many of the kM exist
};

template <int kM>
struct PlainSums {
  static constexpr int64_t kStage = 8;  // input channels whose weights are staged together, as [c][tap][lane]

  const ConvProblem& p;
  const float* x;
  const Filter& w;

  /// The output channels [channel, channel + n), n <= kLanes, of a tile to sums[(r * kM + s) * kLanes + lane].
  __attribute__((noinline, cold)) void run(const PlainTile& tile, int64_t channel, int64_t n, float* sums) const {
    for (int64_t i = 0; i < kM * kM; ++i) store(sums + i * kLanes, zero());
    const int64_t C = p.C_per_group(), K = p.K_per_group();
    for (int64_t lane = 0; lane < n;) {  // lanes of one group share what they read
      const int64_t g = (channel + lane) / K, k = (channel + lane) % K, lanes = least(n - lane, K - k);
      for (int64_t c = 0; c < C; c += kStage) {
        alignas(64) float stage[kStage * 9 * kLanes];
        const int64_t count = least(kStage, C - c);
        fill(g, k, lanes, c, count, stage);
        for (int64_t r = 0; r < tile.rows; ++r) add_row(tile, g * C + c, count, r, stage, lane, lanes, sums);
      }
      lane += lanes;
    }
  }

 private:
  void fill(int64_t g, int64_t k, int64_t lanes, int64_t c, int64_t count, float* stage) const {
    for (int64_t one = 0; one < count; ++one)
      for (int64_t tap = 0; tap < 9; ++tap, stage += kLanes) {
        const float* from = static_cast<const float*>(w.data) + w.offset(g, k, c + one, 0, tap / 3, tap % 3);
        for (int64_t lane = 0; lane < kLanes; ++lane) stage[lane] = lane < lanes ? from[lane * w.stride_k] : 0;
      }
  }

  /// Adds `count` channels to row r of the outputs.
  void add_row(const PlainTile& tile, int64_t channel, int64_t count, int64_t r, const float* stage, int64_t lane,
               int64_t lanes, float* sums) const {
    Vec sum[kM];
    for (int s = 0; s < kM; ++s) sum[s] = zero();
    for (int64_t tap = 0; tap < 9; ++tap) {
      const int64_t h = tile.i + r * p.dilation_h - p.pad_h + tap / 3 * p.dilation_h;
      if (h < 0 || h >= p.H) continue;
      const float* pixels[kM];
      for (int64_t s = 0; s < kM; ++s) {
        const int64_t at = tile.j + s * p.dilation_w - p.pad_w + tap % 3 * p.dilation_w;
        pixels[s] = at < 0 || at >= p.W ? nullptr : x + ((tile.n * p.H + h) * p.W + at) * p.C + channel;
      }
      for (int64_t c = 0; c < count; ++c) {
        const Vec weight = load(stage + (c * 9 + tap) * kLanes);
#pragma GCC unroll 4
        for (int s = 0; s < kM; ++s)
          if (pixels[s]) sum[s] = fma(broadcast(pixels[s][c]), weight, sum[s]);
      }
    }
    for (int64_t s = 0; s < kM; ++s) {
      float* to = sums + (r * kM + s) * kLanes + lane;
      alignas(64) float part[kLanes];
      store(part, sum[s]);
      for (int64_t i = 0; i < lanes; ++i) to[i] += part[i];
    }
  }
};

}  // namespace
}  // namespace fastconv
