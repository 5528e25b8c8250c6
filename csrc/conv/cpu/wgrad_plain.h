// The plain sums of a few weights' gradients of a 3x3 convolution of unit stride, for those that transforms do not
// give: dw[tap][lane] = sum over n,p,q of x[n, p', q', c] * dy[n, p, q, k + lane], where x exists.
#pragma once

#include "conv/conv.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"

namespace fastconv {
namespace {

struct PlainGradient {
  static constexpr int64_t kColumns = 256;  // of a row, that are summed in one go

  const ConvProblem& p;
  const float *x, *dy;

  /// The gradients of w[k .. k + n, c], n <= kLanes, to dw + tap * tap_stride. Rows, images and the batch are sums of
  /// their own.
  __attribute__((noinline, cold)) void run(int64_t c, int64_t k, int64_t n, float* dw, int64_t tap_stride) const {
    for (int64_t tap = 0; tap < 9; ++tap) store(dw + tap * tap_stride, zero());
    for (int64_t image = 0; image < p.N; ++image) {
      Vec sum[3][3] = {};
      for (int64_t i = 0; i < p.P; ++i)
        for (int64_t r = 0; r < 3; ++r) {
          const int64_t h = i - p.pad_h + r;
          if (h < 0 || h >= p.H) continue;
          const float* row = x + (image * p.H + h) * p.W * p.C + c;
          const float* from = dy + (image * p.P + i) * p.Q * p.K + k;
          for (int64_t q = 0; q < p.Q; q += kColumns) add_columns(row, from, q, least(p.Q, q + kColumns), n, sum[r]);
        }
      for (int64_t tap = 0; tap < 9; ++tap) {
        float* to = dw + tap * tap_stride;
        store(to, load(to) + sum[tap / 3][tap % 3]);
      }
    }
  }

 private:
  void add_columns(const float* row, const float* from, int64_t begin, int64_t end, int64_t n, Vec (&sum)[3]) const {
    Vec part[3] = {zero(), zero(), zero()};
    for (int64_t q = begin; q < end; ++q) {
      const Vec d = n == kLanes ? load(from + q * p.K) : load(from + q * p.K, n);
      for (int64_t s = 0; s < 3; ++s) {
        const int64_t w = q - p.pad_w + s;
        if (w >= 0 && w < p.W) part[s] = fma(broadcast(row[w * p.C]), d, part[s]);
      }
    }
    for (int64_t s = 0; s < 3; ++s) sum[s] = sum[s] + part[s];
  }
};

}  // namespace
}  // namespace fastconv
