// Where `auto` passes over a row that could run: what the measurements in benchmarks/results/ say, with the cause.
// Pure functions of the problem; a measured plan overrides them.
#pragma once

#include <algorithm>

#include "conv/conv.h"

namespace fastconv {

/// What a 3x3 problem of stride 1 costs by F(m x m, 3x3), m = 1 being the plain sums: rows of all the matrix products,
/// where reading a panel of weights for few rows costs as much as the multiplications of more.
inline int64_t rows_of_products(const ConvRow& row, const ConvProblem& p, int64_t m) {
  const auto up = [](int64_t value, int64_t unit) { return (value + unit - 1) / unit; };
  const bool dgrad = row.direction == Direction::kDgrad;
  const int64_t rows = dgrad ? p.H : p.P, columns = dgrad ? p.W : p.Q;
  const int64_t height = up(up(rows, p.dilation_h), m), width = up(up(columns, p.dilation_w), m);
  const int64_t positions = m == 1 ? 9 : (m + 2) * (m + 2);
  const int64_t tiles = p.N * std::min(p.dilation_h, rows) * std::min(p.dilation_w, columns) * height * width;
  const bool cached = positions * p.K * p.C_per_group() <= int64_t{4} << 20;
  const int64_t least = p.groups > 1 ? 4 : cached ? 10 : 24;  // groups: the transforms weigh more than the weights
  return positions * (tiles > least ? tiles : least);
}

inline const char* winograd_loss(const ConvRow& row, const ConvProblem& p) {
  if (p.C_per_group() < 8 || p.K_per_group() < 8) return "few channels: the transforms cost more than they save";
  if (row.direction == Direction::kWgrad) return nullptr;
  if (p.groups > 1 && p.C_per_group() == 8 && p.K_per_group() == 8)
    return "groups of 8: half of each merged product multiplies zeros, the grouped kernel does not";
  const int64_t m = row.kernel->algorithm == Algorithm::kWinogradF4 ? 4 : 2, rows = rows_of_products(row, p, m);
  if (rows > rows_of_products(row, p, 1)) return "few outputs: transformed weights are more to read than plain ones";
  if (m == 4 && rows > rows_of_products(row, p, 2)) return "few outputs: F(2x2) has less weight to read";
  return nullptr;
}

inline const char* direct_loss(const ConvRow& row, const ConvProblem& p) {
  if (row.direction == Direction::kWgrad && p.K_per_group() <= 8)
    return "few output channels leave half the lanes of each vector empty";
  if (row.direction == Direction::kFprop && p.has_unit_stride() && p.C_per_group() * p.R * p.S < 32 && p.K >= 64)
    return "fewer than 32 products an output: most of the time goes into starting and writing tiles";
  const int64_t written = row.direction == Direction::kDgrad ? p.C_per_group() : p.K_per_group();
  if (row.direction != Direction::kWgrad && p.groups > 1 && written < 16)
    return "groups of few channels leave most lanes of each vector empty";
  return nullptr;
}

inline const char* grouped_loss(const ConvRow& row, const ConvProblem& p) {
  if (row.direction == Direction::kFprop && p.C_per_group() >= 32 && p.stride_w > 1)
    return "at a stride, groups as wide as 32 channels leave too few taps to an input that was loaded";
  return nullptr;
}

/// Where torch's own kernel is known to give wrong numbers, so that being slower is no reason to hand over to it.
///
/// oneDNN sums a grouped, not depthwise 1-d convolution of 32 taps or more in bfloat16 wrongly on processors without
/// AVX512-BF16, by about 100 %: seen with 128 taps in 16 groups, as in the positional embeddings of speech models.
inline bool torch_is_wrong(const ConvProblem& p) {
  const bool one_axis = p.is_2d() && p.H == 1 && p.P == 1 && p.R == 1 && p.pad_h == 0;
  const bool grouped = p.groups > 1 && (p.C_per_group() > 1 || p.K_per_group() > 1);
  return p.dtype == DType::kBFloat16 && one_axis && grouped && p.S >= 32;
}

/// Null where the row is expected to beat torch's own kernel and every row below it; else the cause.
inline const char* expected_loss(const ConvRow& row, const ConvProblem& p, bool) {
  switch (row.kernel->algorithm) {
    case Algorithm::kRef: return "the reference is written to be read, not to be fast";
    case Algorithm::kIm2col: return "the matrix is written and read again, which the direct kernels avoid";
    case Algorithm::kWinogradF4:
    case Algorithm::kWinogradF2: return winograd_loss(row, p);
    case Algorithm::kGrouped: return grouped_loss(row, p);
    case Algorithm::kDirect: return direct_loss(row, p);
    case Algorithm::kIgemm:
    case Algorithm::kPointwise:
    case Algorithm::kDepthwise:
    case Algorithm::kStem:
    case Algorithm::kGlobal:
    case Algorithm::kScatter: return nullptr;
  }
  return nullptr;
}

}  // namespace fastconv
