// How sums of many products are kept accurate: no chain of additions is longer than a block.
#pragma once

#include <cstdint>

namespace fastconv {
namespace {

/// Products of one block. A long sum is made of blocks that are summed apart: each addition rounds by the size of its
/// running sum, so that the error of one chain grows with its length.
constexpr int64_t kBlockOfSum = 512;
/// Products that a register tile still sums in one chain: to stop in their midst would cost more than it wins.
constexpr int64_t kLongestChain = 2 * kBlockOfSum;

}  // namespace
}  // namespace fastconv
