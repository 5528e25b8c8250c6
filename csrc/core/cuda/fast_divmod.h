// Division by a number that is the same for a whole launch: a multiplication and a shift.
#pragma once

#include <cstdint>

#include "core/cuda/device.h"

namespace fastconv {

/// Quotient and remainder of 0 <= n < 2^31 by 1 <= d < 2^31 (Granlund and Montgomery, "Division by Invariant Integers
/// using Multiplication", 1994).
class FastDivmod {
 public:
  FastDivmod() = default;
  explicit FastDivmod(int divisor) : divisor_(divisor) {
    if (divisor == 1) return;
    while ((int64_t{1} << shift_) < divisor) ++shift_;
    const uint64_t one = 1;
    multiplier_ = static_cast<uint32_t>(((one << (31 + shift_)) + static_cast<uint64_t>(divisor) - 1) /
                                        static_cast<uint64_t>(divisor));
    --shift_;
  }

  __host__ __device__ int divisor() const { return divisor_; }

  __device__ __forceinline__ int quotient(int n) const {
    return divisor_ == 1 ? n : static_cast<int>(__umulhi(static_cast<unsigned>(n), multiplier_) >> shift_);
  }
  /// *quotient = n / d, returns n % d.
  __device__ __forceinline__ int divmod(int n, int* quotient_out) const {
    *quotient_out = quotient(n);
    return n - *quotient_out * divisor_;
  }

 private:
  int divisor_ = 1;
  uint32_t multiplier_ = 0;
  int shift_ = 0;
};

}  // namespace fastconv
