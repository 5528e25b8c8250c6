// What a row needs of the machine: a kind of device, a level of its instruction sets, and features beyond the level.
#pragma once

#include <cstdint>

namespace fastconv {

enum class DeviceKind : int8_t { kCpu, kCuda };

/// A level has all of those below it, of its kind. Features are bits that a level may or may not come with.
struct Target {
  const char* name;
  DeviceKind device;
  int level;
  uint32_t features = 0;
};

namespace target {

constexpr Target cpu{"cpu", DeviceKind::kCpu, 0};
constexpr Target avx2{"avx2", DeviceKind::kCpu, 1};      // and FMA, F16C
constexpr Target avx512{"avx512", DeviceKind::kCpu, 2};  // f, vl, dq, bw
constexpr Target sm80{"sm80", DeviceKind::kCuda, 80};    // and every later GPU
constexpr Target sm90a{"sm90a", DeviceKind::kCuda, 90};  // 9.0 alone
constexpr Target triton{"triton", DeviceKind::kCuda, 80};

}  // namespace target
}  // namespace fastconv
