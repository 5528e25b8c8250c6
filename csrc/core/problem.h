// One convolution, in the field's letters: the record that every table, test, benchmark and log line shares.
#pragma once

#include <cstdint>
#include <string>

namespace fastconv {

enum class DType : int8_t { kFloat32, kFloat64, kBFloat16, kFloat16 };
enum class Layout : int8_t { kNchw, kNhwc };  // of activations; with a depth axis NCDHW and NDHWC
enum class Direction : int8_t { kFprop, kDgrad, kWgrad };
/// What a kernel's sums are worth; `fastconv/testing/tolerance.py` derives the bounds.
enum class Numerics : int8_t { kExact, kWinogradF2, kWinogradF4, kTF32 };

int64_t element_size(DType dtype);
const char* name_of(DType dtype);
const char* name_of(Layout layout);
const char* name_of(Direction direction);
const char* name_of(Numerics numerics);

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

  bool operator==(const ConvProblem&) const = default;
};

/// Number of outputs along an axis padded by `pad` on both sides; the one place that knows the formula.
constexpr int64_t output_extent(int64_t input, int64_t filter, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t span = input + 2 * pad - (dilation * (filter - 1) + 1);
  return span < 0 ? 0 : span / stride + 1;
}
static_assert(output_extent(224, 7, 2, 3, 1) == 112);
static_assert(output_extent(28, 3, 1, 2, 2) == 28);

/// How far the sums of the problem may go along an axis, inside the image or not, in pixels: a bound of every sum and
/// product of extents, stride, padding and dilation, itself without overflow.
int64_t reach(const ConvProblem& problem);
/// Beyond this reach 64 bits are not sure to hold the offset of a pixel that lies outside the image.
constexpr int64_t kMostReach = int64_t{1} << 36;

/// The fprop problem whose result is this problem's dgrad. Assumes: unit stride.
///
/// dx[h] = sum over r of dy[h + pad - r * dilation] * w[r]: a convolution of dy with the flipped filter, C and K
/// exchanged. The filter itself is turned by `adjoint(Filter, problem)` of kernel.h.
ConvProblem adjoint(const ConvProblem& problem);

/// `n2_c64_h56w56_k64_r3s3_st1_pd1_dl1_g1`, with `_f32_nhwc` unless defaults hold; `decode` reads the same text.
///
/// A depth axis adds `d`, `t`; unequal values are `st2x1`; outputs that the formula does not give add `_p57q57`.
std::string encode(const ConvProblem& problem);
/// Throws std::invalid_argument naming the part that could not be read.
ConvProblem decode(const std::string& text);

}  // namespace fastconv
