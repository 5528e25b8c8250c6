// One unpooling, in the field's letters.
#pragma once

#include "core/operand.h"

namespace fastconv {

/// The way back from a maximum's outputs: x[N,C,D,H,W] and an index beside each give y[N,C,Z,P,Q], which is zero but
/// where an index says so. An index counts in the image [Z,P,Q]. Of those that are equal the last in the order of x
/// counts.
struct UnpoolProblem {
  int64_t N = 1, C = 1, D = 1, H = 1, W = 1;
  int64_t Z = 1, P = 1, Q = 1;
  DType dtype = DType::kFloat32;
  Layout x_layout = Layout::kNhwc, y_layout = Layout::kNhwc;

  int64_t x_pixels() const { return D * H * W; }
  int64_t y_pixels() const { return Z * P * Q; }
  bool is_2d() const { return D == 1 && Z == 1; }

  /// The bytes of the record that are no numbers, as one.
  int64_t bytes() const {
    return static_cast<int64_t>(dtype) * 64 + static_cast<int64_t>(x_layout) * 32 + static_cast<int64_t>(y_layout) * 16;
  }

  bool operator==(const UnpoolProblem&) const = default;
};

/// `n2_c64_h56w56_unpool_p112q112`; outputs of the input's extents go without saying.
std::string encode(const UnpoolProblem& problem);
/// Throws std::invalid_argument naming the part that could not be read.
UnpoolProblem decode_unpool(const std::string& text);

/// The same unpooling on one axis: an index counts pixels whatever their axes.
UnpoolProblem squeezed(const UnpoolProblem& problem);

}  // namespace fastconv
