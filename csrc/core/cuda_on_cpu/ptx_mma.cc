#include "core/cuda_on_cpu/ptx_mma.h"

namespace fastconv::cuda_on_cpu {
namespace {

struct Operands {
  float* d;
  const uint32_t *a, *b;
  MmaKind kind;
};

float half_of(uint32_t bits, unsigned upper, MmaKind kind) {
  const auto half = static_cast<uint16_t>(bits >> (16 * upper));
  return kind == MmaKind::kBFloat16 ? to_float(BFloat16{half}) : to_float(Float16{half});
}

/// Fragments to matrices, the product, and its fragments back.
void multiply(void* const* slots, unsigned) {
  const MmaKind kind = static_cast<Operands*>(slots[0])->kind;
  const unsigned depth = kind == MmaKind::kTF32 ? 8 : 16;
  float a[16][16], b[16][8];
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const auto& mine = *static_cast<Operands*>(slots[lane]);
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned m = g + 8 * (i % 2), upper_k = i / 2;
      if (kind == MmaKind::kTF32) {
        a[m][t + 4 * upper_k] = float_of(mine.a[i] & ~0x1fffu);
        if (i < 2) b[t + 4 * i][g] = float_of(mine.b[i] & ~0x1fffu);
      } else {
        for (unsigned half = 0; half < 2; ++half) {
          a[m][2 * t + 8 * upper_k + half] = half_of(mine.a[i], half, kind);
          if (i < 2) b[2 * t + 8 * i + half][g] = half_of(mine.b[i], half, kind);
        }
      }
    }
  }
  for (unsigned lane = 0; lane < kWarp; ++lane)
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned m = lane / 4 + 8 * (i / 2), n = 2 * (lane % 4) + i % 2;
      float sum = static_cast<Operands*>(slots[lane])->d[i];
      for (unsigned k = 0; k < depth; ++k) sum += a[m][k] * b[k][n];
      static_cast<Operands*>(slots[lane])->d[i] = sum;
    }
}

struct OperandsF64 {
  double *d, a, b;
};

void multiply_f64(void* const* slots, unsigned) {
  for (unsigned lane = 0; lane < kWarp; ++lane)
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned m = lane / 4, n = 2 * (lane % 4) + i;
      double& sum = static_cast<OperandsF64*>(slots[lane])->d[i];
      for (unsigned k = 0; k < 4; ++k)
        sum += static_cast<OperandsF64*>(slots[4 * m + k])->a * static_cast<OperandsF64*>(slots[4 * n + k])->b;
    }
}

}  // namespace

void mma(MmaKind kind, float* d, const uint32_t* a, const uint32_t* b, const Where& where) {
  Operands mine{d, a, b, kind};
  in_warp(kFull, &mine, multiply, where);
}

void mma_f64(double* d, double a, double b, const Where& where) {
  OperandsF64 mine{d, a, b};
  in_warp(kFull, &mine, multiply_f64, where);
}

}  // namespace fastconv::cuda_on_cpu
