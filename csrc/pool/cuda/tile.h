// How the direct kernels cut the pixels of an activation into blocks: a block is a tile of packs of channels, columns
// and rows, so that what neighbouring windows share comes from the L1.
#pragma once

#include "core/cuda/launch.h"
#include "pool/cuda/shape.h"

namespace fastconv {
namespace {

constexpr int kPoolThreads = 128;

struct PoolPlace {
  int n, c, d, h, w;  // c: of packs
};

/// A power of two by its logarithm: threads are told apart by shifts.
struct PowerOfTwo {
  int log;
  PowerOfTwo() = default;
  /// The least that holds `wanted`, of those up to `most`.
  PowerOfTwo(int64_t wanted, int most) : log(0) {
    while (count() < wanted && 2 * count() <= most) ++log;
  }
  FASTCONV_HOST_DEVICE int count() const { return 1 << log; }
  /// n % count(), and n becomes the quotient.
  __device__ __forceinline__ int take(int& n) const {
    const int rest = n & (count() - 1);
    n >>= log;
    return rest;
  }
};

/// Powers of two of packs, columns and rows; neighbouring threads take neighbouring packs, or columns where channels do
/// not come last.
class PoolTile {
 public:
  PoolTile(int64_t N, int64_t packs, int64_t D, int64_t H, int64_t W, bool channels_last, int most_packs)
      : channels_last_(channels_last) {
    if (channels_last) {
      c_ = PowerOfTwo(packs, most_packs);
      w_ = PowerOfTwo(W, std::min(kPoolThreads / c_.count(), 8));
      h_ = PowerOfTwo(H, kPoolThreads / c_.count() / w_.count());
    } else {
      w_ = PowerOfTwo(W, 32);
      h_ = PowerOfTwo(H, kPoolThreads / w_.count());
      c_ = PowerOfTwo(packs, kPoolThreads / w_.count() / h_.count());
    }
    const auto blocks = [](int64_t extent, PowerOfTwo tile) { return (extent + tile.count() - 1) >> tile.log; };
    const int64_t c = blocks(packs, c_), w = blocks(W, w_), h = blocks(H, h_);
    const auto divide = [](int64_t by) { return FastDivmod(static_cast<int>(std::max<int64_t>(by, 1))); };
    blocks_c_ = divide(c), blocks_w_ = divide(w), blocks_h_ = divide(h), depth_ = divide(D);
    blocks_ = c * w * h * D * N;
  }

  Launch launch_on(void* stream) const {
    return {.grid = {static_cast<unsigned>(blocks_)}, .block = {1u << (c_.log + w_.log + h_.log)}, .stream = stream};
  }

  __device__ __forceinline__ PoolPlace place(int block, int thread) const {
    PoolPlace at;
    const int c = blocks_c_.divmod(block, &block), w = blocks_w_.divmod(block, &block);
    const int h = blocks_h_.divmod(block, &block);
    at.d = depth_.divmod(block, &at.n);
    if (channels_last_) at.c = c_.take(thread), at.w = w_.take(thread), at.h = thread;
    else at.w = w_.take(thread), at.h = h_.take(thread), at.c = thread;
    at.c += c << c_.log, at.w += w << w_.log, at.h += h << h_.log;
    return at;
  }

 private:
  PowerOfTwo c_, w_, h_;
  bool channels_last_;
  int64_t blocks_;
  FastDivmod blocks_c_, blocks_w_, blocks_h_, depth_;
};

/// Packs of a line of 128 bytes, or a warp of single channels.
template <int kLanes>
constexpr int kMostPacks = kLanes == 1 ? 32 : 8;

}  // namespace
}  // namespace fastconv
