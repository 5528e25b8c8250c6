#include "core/kernel.h"

namespace fastconv {

Filter adjoint(const Filter& filter, const ConvProblem& p) {
  Filter f = filter;
  const int64_t last = (p.T - 1) * f.stride_t + (p.R - 1) * f.stride_r + (p.S - 1) * f.stride_s;
  f.data = static_cast<char*>(filter.data) + last * element_size(p.dtype);
  f.stride_k = filter.stride_c, f.stride_c = filter.stride_k;
  f.stride_t = -filter.stride_t, f.stride_r = -filter.stride_r, f.stride_s = -filter.stride_s;
  return f;
}

Filter dense_filter(void* data, const ConvProblem& p, Layout layout) {
  Filter f;
  f.data = data;
  const int64_t C = p.C_per_group();
  f.stride_k = C * p.T * p.R * p.S;
  f.stride_g = p.K_per_group() * f.stride_k;
  const int64_t tap = layout == Layout::kNchw ? 1 : C;
  f.stride_c = layout == Layout::kNchw ? p.T * p.R * p.S : 1;
  f.stride_s = tap;
  f.stride_r = p.S * tap;
  f.stride_t = p.R * p.S * tap;
  return f;
}

const char* name_of(Target target) {
  switch (target) {
    case Target::kCpu: return "cpu";
    case Target::kAvx2: return "avx2";
    case Target::kAvx512: return "avx512";
    case Target::kSm80: return "sm80";
    case Target::kSm90a: return "sm90a";
    case Target::kTriton: return "triton";
  }
  return "?";
}

const char* name_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kRef: return "ref";
    case Algorithm::kDirect: return "direct";
    case Algorithm::kPointwise: return "pointwise";
    case Algorithm::kIm2col: return "im2col";
    case Algorithm::kIgemm: return "igemm";
    case Algorithm::kWinogradF2: return "winograd_f2";
    case Algorithm::kWinogradF4: return "winograd_f4";
    case Algorithm::kDepthwise: return "depthwise";
    case Algorithm::kGrouped: return "grouped";
    case Algorithm::kStem: return "stem";
  }
  return "?";
}

}  // namespace fastconv
