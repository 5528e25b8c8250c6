// The points of F(4x4, 3x3), the same on every target: 0, +-near, +-far and infinity (docs/winograd.md).
#pragma once

namespace fastconv::winograd_f4 {

// Every constant made of them is exact in float, except those of G.
constexpr float kNear = 0.625f, kFar = 1.5f, kNear2 = kNear * kNear, kFar2 = kFar * kFar;

/// G's rows at +-near and +-far are kAtNear * (1, +-near, near^2) and kAtFar * (1, +-far, far^2).
constexpr float kAtNear = 0.5f / (kNear2 * (kNear2 - kFar2)), kAtFar = 0.5f / (kFar2 * (kFar2 - kNear2));

}  // namespace fastconv::winograd_f4
