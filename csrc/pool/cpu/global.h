// Pools whose one window is the image: after `squeezed`, W inputs a channel, in one row.
#pragma once

#include "core/cpu/parallel.h"
#include "pool/cpu/reduce.h"

namespace fastconv {
namespace {

inline const char* why_not_global(const PoolProblem& p, Layout layout) {
  if (const char* reason = why_not_vectors(p)) return reason;
  if (p.Z != 1 || p.P != 1 || p.Q != 1 || p.D != 1 || p.H != 1 || p.S != p.W || p.pad_w || p.adaptive)
    return "takes images that are one window";
  // One pixel lies the same in either layout.
  if (p.x_layout != layout)
    return layout == Layout::kNhwc ? "takes channels_last only" : "takes contiguous images only";
  return nullptr;
}

/// What the mean divides by.
inline float global_divisor(const PoolProblem& p) { return static_cast<float>(p.divisor ? p.divisor : p.W); }

}  // namespace
}  // namespace fastconv
