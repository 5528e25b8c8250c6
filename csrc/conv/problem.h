// One convolution, in the field's letters: the record that every table, test, benchmark and log line shares.
#pragma once

#include "core/types.h"

namespace fastconv {

/// A convolution of up to three spatial axes: x[N,C,D,H,W] with w[K,C/groups,T,R,S] gives y[N,K,Z,P,Q].
///
/// Output z reads input z * stride - pad + t * dilation, where it exists; elsewhere it reads zero. Z, P and Q are
/// given, not derived, so that uneven padding and the output padding of a transposed convolution need no fields of
/// their own. 1-d and 2-d problems have D = T = Z = 1 and pad_d = 0 (and so for H, R, P and pad_h). Padding may be
/// negative (a crop).
struct ConvProblem {
  int64_t N = 1, C = 1, D = 1, H = 1, W = 1;
  int64_t K = 1, T = 1, R = 1, S = 1;
  int64_t Z = 1, P = 1, Q = 1;
  int64_t stride_d = 1, stride_h = 1, stride_w = 1;
  int64_t pad_d = 0, pad_h = 0, pad_w = 0;
  int64_t dilation_d = 1, dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;
  DType dtype = DType::kFloat32;
  Layout x_layout = Layout::kNhwc, y_layout = Layout::kNhwc;

  int64_t C_per_group() const { return C / groups; }
  int64_t K_per_group() const { return K / groups; }
  int64_t x_elements() const { return N * C * D * H * W; }
  int64_t w_elements() const { return K * C_per_group() * T * R * S; }
  int64_t y_elements() const { return N * K * Z * P * Q; }
  int64_t macs() const { return y_elements() * C_per_group() * T * R * S; }
  /// The depth axis carries nothing. A padded axis of extent 1 does: where its one output lies in the padding, it is 0.
  bool is_2d() const { return D == 1 && T == 1 && Z == 1 && pad_d == 0; }
  bool is_depthwise() const { return groups == C && groups > 1; }
  /// Every tap of a pointwise problem reads exactly one input: 1x1, no padding.
  bool is_pointwise() const { return T * R * S == 1 && pad_d == 0 && pad_h == 0 && pad_w == 0; }
  bool has_unit_stride() const { return stride_d == 1 && stride_h == 1 && stride_w == 1; }

  /// The bytes of the record that are no numbers, as one.
  int64_t bytes() const {
    return static_cast<int64_t>(dtype) * 4 + static_cast<int64_t>(x_layout) * 2 + static_cast<int64_t>(y_layout);
  }

  bool operator==(const ConvProblem&) const = default;
};

/// How far the sums of the problem may go along an axis, inside the image or not, in pixels: a bound of every sum and
/// product of extents, stride, padding and dilation, itself without overflow.
int64_t reach(const ConvProblem& problem);
/// Beyond this reach 64 bits are not sure to hold the offset of a pixel that lies outside the image.
constexpr int64_t kMostReach = int64_t{1} << 36;

/// The fprop problem whose result is this problem's dgrad. Assumes: unit stride.
///
/// dx[h] = sum over r of dy[h + pad - r * dilation] * w[r]: a convolution of dy with the flipped filter, C and K
/// exchanged. The filter itself is turned by `adjoint(Filter, problem)` of conv.h.
ConvProblem adjoint(const ConvProblem& problem);

/// `n2_c64_h56w56_k64_r3s3_st1_pd1_dl1_g1`, with `_f32_nhwc` unless defaults hold; `decode` reads the same text.
///
/// A depth axis adds `d`, `t`; unequal values are `st2x1`; outputs that the formula does not give add `_p57q57`.
std::string encode(const ConvProblem& problem);
/// Throws std::invalid_argument naming the part that could not be read.
ConvProblem decode(const std::string& text);

/// The same convolution, with axes that carry nothing out of the way: one without extent, taps and padding gives its
/// place to an axis outside it, so that tall images are wide ones; a depth axis that the filter passes over is merged
/// with the height or, channels last, with the batch. No element moves; a weight follows by `squeezed(Filter,
/// problem)`.
ConvProblem squeezed(const ConvProblem& problem);

}  // namespace fastconv
