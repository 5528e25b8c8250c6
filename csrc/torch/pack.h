// Weights packed once and used while they are unchanged.
//
// A packed weight is a tensor of bytes: a header that names the row and all that the layout depends on, then what the
// row's `pack` wrote. A layer's cache (its number is an argument of fastconv::_conv_packed) holds one for each header
// that the layer's calls asked for, all of one content of the weight.
//
// The content decides: a fingerprint of the whole weight is taken at each call, whoever changed it and by whatever way.
// The caller may say that the weight is frozen: then the weight's address, strides and version decide.
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

/// The packed weight of a cache for `plan`, made now if it has none of this content. Null where the row packs nothing.
/// The pointer is good as long as the caller holds the result.
std::shared_ptr<const Tensor> cached_packed(const CacheRef& cache, const ConvPlan& plan, const Call& call,
                                            const Tensor& weight);

}  // namespace fastconv::binding
