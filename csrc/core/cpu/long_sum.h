// How sums of many products are kept accurate: no chain of additions is longer than a block.
#pragma once

#include <cstdint>

namespace fastconv {
namespace {

/// Products that one chain of additions spans at most. A longer sum is made of blocks that are summed apart: each
/// addition rounds by the size of its running sum, so that the error of one chain grows with its length.
constexpr int64_t kBlockOfSum = 1024;

}  // namespace
}  // namespace fastconv
