// Weights packed once and used while they are unchanged.
//
// A packed weight is a tensor of bytes: a header that names the row and what it was made for, then what the row's
// `pack` wrote. A layer's cache (its number is an argument of fastconv::_conv_packed) holds one for each row that the
// layer's calls have chosen.
#pragma once

#include <memory>

#include "torch/run.h"

namespace fastconv::binding {

/// The weight packed for `plan`; empty where its row takes weights as they lie.
Tensor pack_weight(const ConvPlan& plan, const Call& call, const Tensor& weight);

/// The row that `packed` was made by, if it fits the problem's weight and this machine; else null.
const ConvRow* row_of_packed(const Tensor& packed, const ConvProblem& problem, Direction direction);
/// What the row reads.
const void* packed_data(const Tensor& packed);

/// The packed weight of a cache for `plan`, made now if the weight is another than at the last call: other memory,
/// sizes or strides, or another `version` (torch's counter of in-place changes). Null where the row packs nothing.
///
/// The pointer is good as long as the caller holds the result. The cache keeps the weight's memory alive, so that its
/// address cannot come back with another weight in it.
std::shared_ptr<const Tensor> cached_packed(int64_t cache, int64_t version, const ConvPlan& plan, const Call& call,
                                            const Tensor& weight);

}  // namespace fastconv::binding
