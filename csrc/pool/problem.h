// One pooling, in the field's letters.
#pragma once

#include "core/operand.h"

namespace fastconv {

enum class PoolMode : int8_t { kAvg, kMax, kSto };

/// A pooling over up to three spatial axes: x[N,C,D,H,W] gives y[N,C,Z,P,Q] through windows of T x R x S.
///
/// Output z looks at the inputs z * stride - pad + t * dilation, where they exist. Z, P and Q are given, not derived:
/// `ceil_mode` is one more output, whose window reaches past the padding. 1-d and 2-d problems have D = T = Z = 1.
/// `adaptive` windows are those of torch's: output z looks at the inputs from floor(z * D / Z) to ceil((z + 1) * D /
/// Z).
///
/// The mean divides by the places of the window inside the padded image; without `count_padding` by those inside the
/// image; or by `divisor` where it is not 0. The maximum is NaN where an input is; its index is the first of its
/// inputs, the last NaN: counted in the image [D, H, W], or as a place in the window [T, R, S] where `index` is of one
/// byte.
///
/// A stochastic pool (kSto) is one of the window's inputs, by a number u in [0, 1) an output: the first up to which the
/// positive inputs sum to more than u times their sum, so that each is drawn by its share. It is 0 where none is
/// positive, and NaN where their sum is no number; its index is that of the drawn input, or the window's first.
struct PoolProblem {
  int64_t N = 1, C = 1, D = 1, H = 1, W = 1;
  int64_t T = 1, R = 1, S = 1;
  int64_t Z = 1, P = 1, Q = 1;
  int64_t stride_d = 1, stride_h = 1, stride_w = 1;
  int64_t pad_d = 0, pad_h = 0, pad_w = 0;
  int64_t dilation_d = 1, dilation_h = 1, dilation_w = 1;
  int64_t divisor = 0;
  DType dtype = DType::kFloat32;
  Layout x_layout = Layout::kNhwc, y_layout = Layout::kNhwc;
  PoolMode mode = PoolMode::kAvg;
  IndexType index = IndexType::kInt64;  // of a maximum
  bool adaptive = false, count_padding = true;

  int64_t x_elements() const { return N * C * D * H * W; }
  int64_t y_elements() const { return N * C * Z * P * Q; }
  int64_t taps() const;
  bool is_2d() const { return D == 1 && T == 1 && Z == 1 && pad_d == 0; }

  /// The bytes of the record that are no numbers, as one.
  int64_t bytes() const {
    const int64_t words =
        static_cast<int64_t>(mode) * 8 + static_cast<int64_t>(index) * 4 + adaptive * 2 + count_padding;
    return static_cast<int64_t>(dtype) * 64 + static_cast<int64_t>(x_layout) * 32 +
           static_cast<int64_t>(y_layout) * 16 + words;
  }

  bool operator==(const PoolProblem&) const = default;
};

/// `n2_c64_h112w112_r3s3_st2_pd1_max`: as a convolution's text without K and groups. `_max_u8` has indices of one byte,
/// `_avg_excl` is a mean that does not count padding, `_div5` one that divides by 5, `_adapt` has adaptive windows,
/// `_sto` draws;
/// outputs that rounding down does not give add `_p57q57`.
std::string encode(const PoolProblem& problem);
/// Throws std::invalid_argument naming the part that could not be read.
PoolProblem decode_pool(const std::string& text);

/// The same pooling in as few axes: windows that divide the image evenly are no adaptive ones, and an image that is one
/// window has one axis.
PoolProblem squeezed(const PoolProblem& problem);

}  // namespace fastconv
