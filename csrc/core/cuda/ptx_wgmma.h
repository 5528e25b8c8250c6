// Matrix products of a warpgroup (four warps, the first a multiple of four) on operands in shared memory (sm_90a):
// d (64 x N, float, in registers) += a (64 x 16) b (16 x N).
//
// With w the warp in its group, g = lane / 4 and t = lane % 4, a lane holds of d
//   d[4 i], d[4 i + 1] row 16 w + g, columns 8 i + 2 t and the next; d[4 i + 2], d[4 i + 3] row 16 w + g + 8
// and of an `a` in registers what mma_m16n8k16 takes, rows from 16 w.
//
// An operand in shared memory is described by 64 bits. "K-major": neighbours in memory are neighbours in k; "MN-major":
// neighbours in m (or n). Below, a chunk is 16 bytes, 8 elements, and `chunks` of a swizzle's row are 2, 4 or 8:
//   K-major             row m: chunks 0, 1 of k lie at (m % 8) pitch + (m / 8) stride_bytes. Unswizzled, pitch is 16
//   and
//                       chunk 1 lies leading_bytes on; swizzled, pitch is the span and chunk 1 follows at 16.
//   MN-major, swizzled  row k: chunk c of m lies at (k % 8) span + (k / 8) stride_bytes + c / chunks leading_bytes
//                       + c % chunks 16.
//   MN-major, not       chunk c of m at k % 8 16 + (k / 8) leading_bytes + c stride_bytes.
// A swizzle then exchanges chunks by the address (tensor_map.h), as bulk copies do. To go on in k inside a swizzled
// row, add to the start: `advance`.
#pragma once

#include "core/cuda/tensor_map.h"
#include "core/half.h"

namespace fastconv::ptx {

enum class Major : int { kK, kMN };

/// Bits 62 and 63 of an operand's description.
FASTCONV_HOST_DEVICE constexpr uint64_t swizzle_bits(Swizzle swizzle) {
  return (swizzle == Swizzle::kNone ? 0ull : 4ull - static_cast<uint64_t>(swizzle)) << 62;
}

/// The description of the operand `bytes` further on in shared memory (a multiple of 16).
FASTCONV_HOST_DEVICE constexpr uint64_t advance(uint64_t operand, unsigned bytes) { return operand + (bytes >> 4); }

}  // namespace fastconv::ptx

#if !defined(__CUDACC__)
#include "core/cuda_on_cpu/ptx_wgmma.h"
#else
#include <type_traits>

#include "core/cuda/ptx_asm.h"

namespace fastconv::ptx {

/// The description of an operand that begins at `shared` (aligned to 16 bytes; repeats of a swizzle begin at multiples
/// of eight of its rows).
__device__ __forceinline__ uint64_t wgmma_operand(const void* shared, unsigned leading_bytes, unsigned stride_bytes,
                                                  Swizzle swizzle) {
  return uint64_t{(shared_address(shared) & 0x3ffff) >> 4} | uint64_t{leading_bytes >> 4} << 16 |
         uint64_t{stride_bytes >> 4} << 32 | swizzle_bits(swizzle);
}

/// Registers and shared memory as this thread left them can be used by wgmma that follows. All wgmma need one before
/// the first, and after registers of d or a were touched.
__device__ __forceinline__ void wgmma_fence() { FASTCONV_ASM_SM90A("wgmma.fence.sync.aligned;" :: : "memory"); }

/// The products since the last commit are a group.
__device__ __forceinline__ void wgmma_commit() { FASTCONV_ASM_SM90A("wgmma.commit_group.sync.aligned;" :: : "memory"); }

/// All but the latest kPending groups are done: their d may be read, their operands overwritten.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  FASTCONV_ASM_SM90A("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving what it does with `d` across this place: before wgmma_fence where d was written, and
/// after wgmma_wait before d is read.
template <int kCount>
__device__ __forceinline__ void wgmma_keep_order(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// Operand lists: ten registers by number (%0 to %9 with nothing given), then those of whole N.
#define FASTCONV_TEN(t) \
  "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define FASTCONV_FIFTY FASTCONV_TEN() FASTCONV_TEN(1) FASTCONV_TEN(2) FASTCONV_TEN(3) FASTCONV_TEN(4)
#define FASTCONV_HUNDRED FASTCONV_FIFTY FASTCONV_TEN(5) FASTCONV_TEN(6) FASTCONV_TEN(7) FASTCONV_TEN(8) FASTCONV_TEN(9)
#define FASTCONV_LIST_8 "{%0, %1, %2, %3}"
#define FASTCONV_LIST_16 "{%0, %1, %2, %3, %4, %5, %6, %7}"
#define FASTCONV_LIST_32 "{" FASTCONV_TEN() "%10, %11, %12, %13, %14, %15}"
#define FASTCONV_LIST_64 "{" FASTCONV_TEN() FASTCONV_TEN(1) FASTCONV_TEN(2) "%30, %31}"
#define FASTCONV_LIST_96 \
  "{" FASTCONV_TEN() FASTCONV_TEN(1) FASTCONV_TEN(2) FASTCONV_TEN(3) "%40, %41, %42, %43, %44, %45, %46, %47}"
#define FASTCONV_LIST_128 "{" FASTCONV_FIFTY FASTCONV_TEN(5) "%60, %61, %62, %63}"
#define FASTCONV_LIST_192 \
  "{" FASTCONV_FIFTY FASTCONV_TEN(5) FASTCONV_TEN(6) FASTCONV_TEN(7) FASTCONV_TEN(8) "%90, %91, %92, %93, %94, %95}"
#define FASTCONV_LIST_256 \
  "{" FASTCONV_HUNDRED FASTCONV_TEN(10) FASTCONV_TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127}"

#define FASTCONV_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define FASTCONV_D8(i) FASTCONV_D4(i), FASTCONV_D4(i + 4)
#define FASTCONV_D16(i) FASTCONV_D8(i), FASTCONV_D8(i + 8)
#define FASTCONV_D32(i) FASTCONV_D16(i), FASTCONV_D16(i + 16)
#define FASTCONV_D_8 FASTCONV_D4(0)
#define FASTCONV_D_16 FASTCONV_D8(0)
#define FASTCONV_D_32 FASTCONV_D16(0)
#define FASTCONV_D_64 FASTCONV_D32(0)
#define FASTCONV_D_96 FASTCONV_D32(0), FASTCONV_D16(32)
#define FASTCONV_D_128 FASTCONV_D32(0), FASTCONV_D32(32)
#define FASTCONV_D_192 FASTCONV_D32(0), FASTCONV_D32(32), FASTCONV_D32(64)
#define FASTCONV_D_256 FASTCONV_D32(0), FASTCONV_D32(32), FASTCONV_D32(64), FASTCONV_D32(96)

// One instruction of N columns; p0, p1 ... are the numbers of the operands that follow d.
#define FASTCONV_SHARED_OF(n, type, p0, p1, p2, p3, p4)                                                              \
  FASTCONV_ASM_SM90A("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n           \
                     "k16.f32." type "." type " " FASTCONV_LIST_##n ", %" #p0 ", %" #p1 ", p, 1, 1, %" #p3 ", %" #p4 \
                                                                    ";\n}" : FASTCONV_D_##n : "l"(a),                \
                     "l"(b), "r"(int{accumulate}), "n"(int{kMajorA == Major::kMN}), "n"(int{kMajorB == Major::kMN}))
#define FASTCONV_REGISTERS_OF(n, type, p0, p1, p2, p3, p4, p5, p6)                                           \
  FASTCONV_ASM_SM90A("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n   \
                     "k16.f32." type "." type " " FASTCONV_LIST_##n ", {%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 \
                                                                    "}, %" #p4 ", p, 1, 1, %" #p6            \
                                                                    ";\n}" : FASTCONV_D_##n : "r"(a[0]),     \
                     "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int{accumulate}), "n"(int{kMajorB == Major::kMN}))
#define FASTCONV_WGMMA(form, n, ...)                                                         \
  if constexpr (kN == n) {                                                                   \
    if constexpr (std::is_same_v<T, BFloat16>) FASTCONV_##form##_OF(n, "bf16", __VA_ARGS__); \
    else FASTCONV_##form##_OF(n, "f16", __VA_ARGS__);                                        \
  }

/// The N of the instructions that are written out here.
template <int kN>
constexpr bool kHasWgmma =
    kN == 8 || kN == 16 || kN == 32 || kN == 64 || kN == 96 || kN == 128 || kN == 192 || kN == 256;

/// Both operands in shared memory, T = BFloat16 or Float16. Without `accumulate` d is a b. d is undefined until a
/// wgmma_wait for its group. All threads of the warpgroup call it with the same operands.
template <class T, int kN, Major kMajorA = Major::kK, Major kMajorB = Major::kK>
__device__ __forceinline__ void wgmma_m64k16(float (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(kHasWgmma<kN> && (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>));
  FASTCONV_WGMMA(SHARED, 8, 4, 5, 6, 7, 8)
  FASTCONV_WGMMA(SHARED, 16, 8, 9, 10, 11, 12)
  FASTCONV_WGMMA(SHARED, 32, 16, 17, 18, 19, 20)
  FASTCONV_WGMMA(SHARED, 64, 32, 33, 34, 35, 36)
  FASTCONV_WGMMA(SHARED, 96, 48, 49, 50, 51, 52)
  FASTCONV_WGMMA(SHARED, 128, 64, 65, 66, 67, 68)
  FASTCONV_WGMMA(SHARED, 192, 96, 97, 98, 99, 100)
  FASTCONV_WGMMA(SHARED, 256, 128, 129, 130, 131, 132)
}

/// `a` in registers, which must stay as they are until the product is done.
template <class T, int kN, Major kMajorB = Major::kK>
__device__ __forceinline__ void wgmma_m64k16(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(kHasWgmma<kN> && (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>));
  FASTCONV_WGMMA(REGISTERS, 8, 4, 5, 6, 7, 8, 9, 10)
  FASTCONV_WGMMA(REGISTERS, 16, 8, 9, 10, 11, 12, 13, 14)
  FASTCONV_WGMMA(REGISTERS, 32, 16, 17, 18, 19, 20, 21, 22)
  FASTCONV_WGMMA(REGISTERS, 64, 32, 33, 34, 35, 36, 37, 38)
  FASTCONV_WGMMA(REGISTERS, 96, 48, 49, 50, 51, 52, 53, 54)
  FASTCONV_WGMMA(REGISTERS, 128, 64, 65, 66, 67, 68, 69, 70)
  FASTCONV_WGMMA(REGISTERS, 192, 96, 97, 98, 99, 100, 101, 102)
  FASTCONV_WGMMA(REGISTERS, 256, 128, 129, 130, 131, 132, 133, 134)
}

#undef FASTCONV_TEN
#undef FASTCONV_FIFTY
#undef FASTCONV_HUNDRED
#undef FASTCONV_LIST_8
#undef FASTCONV_LIST_16
#undef FASTCONV_LIST_32
#undef FASTCONV_LIST_64
#undef FASTCONV_LIST_96
#undef FASTCONV_LIST_128
#undef FASTCONV_LIST_192
#undef FASTCONV_LIST_256
#undef FASTCONV_D4
#undef FASTCONV_D8
#undef FASTCONV_D16
#undef FASTCONV_D32
#undef FASTCONV_D_8
#undef FASTCONV_D_16
#undef FASTCONV_D_32
#undef FASTCONV_D_64
#undef FASTCONV_D_96
#undef FASTCONV_D_128
#undef FASTCONV_D_192
#undef FASTCONV_D_256
#undef FASTCONV_SHARED_OF
#undef FASTCONV_REGISTERS_OF
#undef FASTCONV_WGMMA

}  // namespace fastconv::ptx
#endif
