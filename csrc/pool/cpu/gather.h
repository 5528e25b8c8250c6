// What an input has of an output whose window looks at it, vector by vector of dy.
#pragma once

#include "pool/cpu/reduce.h"
#include "pool/window.h"

namespace fastconv {
namespace {

/// A mean's share.
struct Share {
  using Index = NoIndices;
  FASTCONV_INLINE static Vec of(Vec dy, Vec part, const NoIndices*, int32_t, int64_t) { return dy * part; }
};

/// All of it where the maximum was the input at `place`, else nothing.
template <class T>
struct Taken {
  using Index = T;
  FASTCONV_INLINE static Vec of(Vec dy, Vec, const T* index, int32_t place, int64_t n) {
    return {load_ints(index, n) == Ints{} + place ? dy.v : zero().v};
  }
};

/// Calls `body(T{}, Gather{})` with the element type and what the call gathers.
template <class T, class Body>
void with_gather(const PoolProblem& p, const Body& body) {
  if (p.mode == PoolMode::kAvg) body(T{}, Share{});
  else if (p.index == IndexType::kUInt8) body(T{}, Taken<uint8_t>{});
  else body(T{}, Taken<int64_t>{});
}
template <class Body>
void with_gathers(const PoolProblem& p, const Body& body) {
  with_vector_type(p.dtype, [&](auto element) { with_gather<decltype(element)>(p, body); });
}

}  // namespace
}  // namespace fastconv
