// dbias[k] = sum over n, z, p, q of dy. Each thread sums whole channels in pixel order, so the result does not depend
// on the number of threads.

#include "conv/bias_grad.h"
#include "core/cpu/ref.h"

namespace fastconv {
namespace {

constexpr int64_t kChannels = 64;  // one strip: four cache lines of floats, read pixel after pixel
constexpr int64_t kInFloat = 256;  // numbers that are summed in float, these sums in double: exact enough and fast

template <class T>
void run_typed(const ConvProblem& p, const T* dy, T* dbias) {
  using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const int64_t pixels = p.Z * p.P * p.Q;
  if (p.y_layout == Layout::kNchw) {
    parallel_for(p.K, [&](int64_t k) {
      double sum = 0;
      for (int64_t n = 0; n < p.N; ++n) {
        const T* plane = dy + (n * p.K + k) * pixels;
        for (int64_t begin = 0; begin < pixels; begin += 16 * kInFloat) {
          const int64_t end = begin + 16 * kInFloat < pixels ? begin + 16 * kInFloat : pixels;
          Accumulator partial[16] = {};
          for (int64_t i = begin; i < end; ++i) partial[i % 16] += static_cast<Accumulator>(read(plane + i));
          for (Accumulator part : partial) sum += part;
        }
      }
      write(sum, dbias + k);
    });
    return;
  }
  parallel_for((p.K + kChannels - 1) / kChannels, [&](int64_t strip) {
    const int64_t k0 = strip * kChannels, count = p.K - k0 < kChannels ? p.K - k0 : kChannels;
    double sum[kChannels] = {};
    for (int64_t row = 0; row < p.N * pixels; row += kInFloat) {
      const int64_t end = row + kInFloat < p.N * pixels ? row + kInFloat : p.N * pixels;
      Accumulator partial[kChannels] = {};
      for (int64_t pixel = row; pixel < end; ++pixel)
        for (int64_t k = 0; k < count; ++k) partial[k] += static_cast<Accumulator>(read(dy + pixel * p.K + k0 + k));
      for (int64_t k = 0; k < count; ++k) sum[k] += partial[k];
    }
    for (int64_t k = 0; k < count; ++k) write(sum[k], dbias + k0 + k);
  });
}

}  // namespace

void bias_grad(const ConvProblem& p, const void* dy, void* dbias) {
  with_type(p.dtype, [&](auto zero) {
    using T = decltype(zero);
    run_typed(p, static_cast<const T*>(dy), static_cast<T*>(dbias));
  });
}

}  // namespace fastconv
