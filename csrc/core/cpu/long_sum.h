// How sums of many products are kept accurate: no chain of additions is longer than a block.
#pragma once

#include <cstdint>

namespace fastconv {
namespace {

/// Products of one block. A long sum is made of blocks that are summed apart: each addition rounds by the size of its
/// running sum, so that the error of one chain grows with its length.
constexpr int64_t kBlockOfSum = 512;
/// A tile takes no more than this many products in one chain, and no fewer where it would have to stop for it.
constexpr int64_t kLongestChain = 2 * kBlockOfSum;

}  // namespace
}  // namespace fastconv
