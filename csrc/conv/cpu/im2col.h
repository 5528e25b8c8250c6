// What the im2col kernels share: rows of the explicit matrix, packed columns, and the matrix product on blocks of it.
//
// The matrix has a row for each output pixel and a column for each weight of a filter, in the order (r, s, c), so that
// a row is made of pieces of NHWC pixels. Only a block of it exists at a time. float32 uses the register tile; float64
// a plain blocked loop on the compiler's vectors.
#pragma once

#include "conv/conv.h"
#include "core/cpu/epilogue.h"
#include "core/cpu/gemm.h"
#include "core/cpu/ref.h"

namespace fastconv {
namespace {

constexpr int64_t kBlockBytes = 1 << 19;  // of the explicit matrix, for each thread: half a common L2

/// Columns of a packed panel.
template <class T>
constexpr int64_t kColumns = std::is_same_v<T, float> ? kPanel : 8;

inline int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return value > high ? (high < low ? low : high) : value < low ? low : value;
}

/// Columns of the matrix for one group.
inline int64_t depth_of(const ConvProblem& p) { return p.R * p.S * p.C_per_group(); }

/// Rows of the matrix that fill a block, for rows of `columns` elements.
inline int64_t rows_in_block(const ConvProblem& p, int64_t columns) {
  return clamp(kBlockBytes / (columns * element_size(p.dtype)), 1, 256);
}

/// Columns [begin, end) of the matrix, group g, for `count` output pixels from the one numbered `pixel` on.
template <class T>
void fill_rows(const ConvProblem& p, const T* x, int64_t g, int64_t pixel, int64_t count, int64_t begin, int64_t end,
               T* to) {
  const int64_t C = p.C_per_group(), first_tap = begin / C, first_c = begin % C;
  int64_t n = pixel / (p.P * p.Q), i = pixel / p.Q % p.P, j = pixel % p.Q;
  for (int64_t row = 0; row < count; ++row) {
    const T* image = x + n * p.H * p.W * p.C + g * C;
    int64_t r = first_tap / p.S, s = first_tap % p.S, c = first_c;
    for (int64_t m = begin; m < end;) {
      const int64_t piece = C - c < end - m ? C - c : end - m;
      const int64_t h = i * p.stride_h - p.pad_h + r * p.dilation_h, w = j * p.stride_w - p.pad_w + s * p.dilation_w;
      if (h >= 0 && h < p.H && w >= 0 && w < p.W) {
        const T* from = image + (h * p.W + w) * p.C + c;
        for (int64_t e = 0; e < piece; ++e) to[e] = from[e];
      } else {
        for (int64_t e = 0; e < piece; ++e) to[e] = T(0);
      }
      m += piece, to += piece, c = 0;
      if (++s == p.S) s = 0, ++r;
    }
    if (++j == p.Q) {
      j = 0;
      if (++i == p.P) i = 0, ++n;
    }
  }
}

/// Where a product goes: row i to data + pixel + i * pixel_stride, channels [channel, channel + n).
template <class T>
struct Target2d {
  T* data;
  int64_t pixel, pixel_stride, channel, n;
  bool add;                  // to what is there, instead of replacing it
  const Epilogue* epilogue;  // null for none
};

/// Writes the sums of the rows [first, first + count) of a product. Out of line: in every height of a tile it would be
/// most of the code.
__attribute__((noinline)) void write_rows(const float* sums, int64_t first, int count, const Target2d<float>& out) {
  const Epilogue none;
  for (int64_t row = first; row < first + count; ++row)
    for (int64_t j = 0; j < kTileVectors; ++j, sums += kLanes) {
      const int64_t n = clamp(out.n - j * kLanes, 0, kLanes), pixel = out.pixel + row * out.pixel_stride;
      if (n == 0) continue;
      Vec sum = load(sums);
      if (out.add) sum = sum + load(out.data + pixel + out.channel + j * kLanes, n);
      finish_and_store(sum, out.epilogue ? *out.epilogue : none, out.data, pixel, out.channel + j * kLanes, n);
    }
}

/// out[i][j] = sum over l of a[i * a_row + l * a_step] * b[l * kColumns + j] for one block of a sum. One of a_row and
/// a_step is 1.
inline void product_of_block(int64_t rows, int64_t length, const float* a, int64_t a_row, int64_t a_step,
                             const float* b, const Target2d<float>& out) {
  const Tiling tiling = tile_rows(rows);
  for (int64_t i = 0; i < rows; i += tiling.height)
    with_rows(rows - i < tiling.height ? rows - i : tiling.height, [&](auto count) {
      constexpr int kRows = decltype(count)::value;
      Vec acc[kRows][kTileVectors];
      clear(acc);
      Ahead ahead{b, 0};
      if (a_step == 1) accumulate<kRows, kTileVectors>(acc, a + i * a_row, a_row, b, length);
      else accumulate_transposed<kRows, kTileVectors>(acc, a + i, a_step, b, length, ahead);
      alignas(64) float sums[kRows * kTileVectors * kLanes];
#pragma GCC unroll 16
      for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 4
        for (int j = 0; j < kTileVectors; ++j) store(sums + (m * kTileVectors + j) * kLanes, acc[m][j]);
      write_rows(sums, i, kRows, out);
    });
}

inline void product_of_block(int64_t rows, int64_t length, const double* a, int64_t a_row, int64_t a_step,
                             const double* b, const Target2d<double>& out) {
  typedef double Doubles __attribute__((vector_size(kColumns<double> * sizeof(double))));
  constexpr int kRows = 6;
  for (int64_t i = 0; i < rows; i += kRows)
    with_rows<kRows>(rows - i < kRows ? rows - i : kRows, [&](auto count) {
      constexpr int kHeight = decltype(count)::value;
      Doubles acc[kHeight] = {};
      for (int64_t l = 0; l < length; ++l) {
        Doubles column;
        __builtin_memcpy(&column, b + l * kColumns<double>, sizeof(column));
#pragma GCC unroll 6
        for (int m = 0; m < kHeight; ++m) acc[m] += a[(i + m) * a_row + l * a_step] * column;
      }
      for (int m = 0; m < kHeight; ++m)
        for (int64_t j = 0; j < out.n; ++j) {
          const int64_t index = out.pixel + (i + m) * out.pixel_stride + out.channel + j;
          const double sum = out.add ? acc[m][j] + out.data[index] : acc[m][j];
          out.data[index] = out.epilogue ? finish<double>(sum, *out.epilogue, out.channel + j, index) : sum;
        }
    });
}

/// The same for sums of any length: blocks after the first add to `out`, the last one finishes.
template <class T>
void product(int64_t rows, int64_t length, const T* a, int64_t a_row, int64_t a_step, const T* b,
             const Target2d<T>& out) {
  for (int64_t l = 0; l == 0 || l < length; l += kBlockOfSum) {
    Target2d<T> to = out;
    to.add = out.add || l > 0;
    if (length - l > kBlockOfSum) to.epilogue = nullptr;
    product_of_block(rows, least(length - l, kBlockOfSum), a + l * a_step, a_row, a_step, b + l * kColumns<T>, to);
  }
}

/// Calls `body(T{})` with the problem's element type, float or double.
template <class Body>
void with_real(const ConvProblem& p, Body&& body) {
  if (p.dtype == DType::kFloat64) body(double{});
  else body(float{});
}

inline const char* im2col_why_not(const ConvProblem& p) {
  if (p.dtype != DType::kFloat32 && p.dtype != DType::kFloat64) return "takes float32 and float64 only";
  if (!p.is_2d()) return "takes 1-d and 2-d problems only";
  if (p.x_layout != Layout::kNhwc || p.y_layout != Layout::kNhwc) return "takes channels_last only";
  return nullptr;
}

/// Elements of packed columns: [group][panel][row][kColumns], the last panel filled up with zeros.
template <class T>
int64_t packed_elements(int64_t groups, int64_t rows, int64_t columns) {
  return groups * divide_up(columns, kColumns<T>) * rows * kColumns<T>;
}

}  // namespace
}  // namespace fastconv
