// The contract between a kernel and everything else: its arguments, and its row in the table.
#pragma once

#include <cstddef>

#include "core/host_device.h"
#include "core/problem.h"

namespace fastconv {

enum class Activation : int8_t { kNone, kRelu, kRelu6, kHardSwish, kSilu, kSigmoid };

/// `out = act(scale[channel] * sum + shift[channel] + residual)`, applied while the tile is in registers.
///
/// Channels are the output's (K of fprop, C of dgrad). `scale` and `shift` hold the accumulation type (float, or
/// double for float64 problems); null means 1 and 0. `residual` has the output's dtype, extents and layout.
struct Epilogue {
  const void* scale = nullptr;
  const void* shift = nullptr;
  const void* residual = nullptr;
  Activation activation = Activation::kNone;

  bool empty() const { return !scale && !shift && !residual && activation == Activation::kNone; }
};

/// A weight by base and strides in elements: element (g, k, c, t, r, s), k and c counted inside the group.
struct Filter {
  void* data = nullptr;
  int64_t stride_g = 0, stride_k = 0, stride_c = 0, stride_t = 0, stride_r = 0, stride_s = 0;

  FASTCONV_HOST_DEVICE int64_t offset(int64_t g, int64_t k, int64_t c, int64_t t, int64_t r, int64_t s) const {
    return g * stride_g + k * stride_k + c * stride_c + t * stride_t + r * stride_r + s * stride_s;
  }
};

/// The filter of `adjoint(problem)`: taps flipped, C and K exchanged; the same memory.
Filter adjoint(const Filter& filter, const ConvProblem& problem);
/// A filter that lies dense as torch keeps it: K, C/groups, T, R, S (kcrs), or channels last (krsc).
Filter dense_filter(void* data, const ConvProblem& problem, Layout layout = Layout::kNchw);

/// Operands of one call. Activations are dense in the problem's layout.
///
/// fprop reads x, w and writes out = y; dgrad reads dy, w and writes out = dx; wgrad reads x, dy and writes dw, whose
/// strides are the weight's. Every element of the output is written. Pointers need the alignment of their element.
struct ConvArgs {
  const void* x = nullptr;
  const void* dy = nullptr;
  Filter w;                      // the weight, or for wgrad the output dw
  void* out = nullptr;           // y or dx
  Epilogue epilogue;             // fprop and dgrad
  const void* packed = nullptr;  // what the kernel's `pack` wrote, for kernels that have one
  void* workspace = nullptr;     // `workspace(problem)` bytes, aligned to 64 (CUDA: 256); contents undefined
  void* stream = nullptr;        // CUDA kernels: the stream, on whose device all pointers lie
};

/// How a kernel goes about it; `heuristics.h` speaks of algorithms, never of single rows.
enum class Algorithm : int8_t {
  kRef,         // the defining sums, one output at a time
  kDirect,      // a register tile of pixels by channels, taps in the inner loop
  kPointwise,   // 1x1: a matrix product on the activations as they lie
  kIm2col,      // the explicit matrix, then a matrix product
  kIgemm,       // implicit GEMM: the matrix is gathered tile by tile
  kWinogradF2,  // F(2x2, 3x3)
  kWinogradF4,  // F(4x4, 3x3)
  kDepthwise,   // one channel a group
  kGrouped,     // a few channels a group, several groups in one vector
  kStem,        // a handful of input channels, read as NCHW or NHWC
};

const char* name_of(Algorithm algorithm);

/// What a kernel's file exports. A kernel never allocates, never throws, and splits its work by `parallel_for`.
struct ConvKernel {
  Algorithm algorithm;
  /// Null where the kernel takes the problem, else the reason in words.
  const char* (*why_not)(const ConvProblem&);
  void (*run)(const ConvProblem&, const ConvArgs&);
  size_t (*workspace)(const ConvProblem&) = nullptr;
  /// The packed weight depends on the filter's extents, groups and the direction alone, so that it serves every
  /// image size and batch.
  size_t (*packed_bytes)(const ConvProblem&) = nullptr;
  void (*pack)(const ConvProblem&, const Filter&, void* packed) = nullptr;
};

/// Opens the definition of a kernel's record: `FASTCONV_DEFINE(conv_fprop_ref) = {...};`
#define FASTCONV_DEFINE(name)   \
  extern const ConvKernel name; \
  const ConvKernel name

enum class Target : int8_t { kCpu, kAvx2, kAvx512, kSm80, kSm90a, kTriton };
const char* name_of(Target target);

struct ConvRow {
  Target target;
  Direction direction;
  Numerics numerics;
  const char* name;
  const ConvKernel* kernel;
};

}  // namespace fastconv
