// Descriptions of tensors for bulk copies (TMA): made by the host, passed to a kernel as `const __grid_constant__
// TensorMap`. On the CPU the 128 bytes hold core/cuda_on_cpu's own fields.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/cuda/device.h"
#include "core/types.h"

#if defined(__CUDACC__)
#include <cuda.h>
#endif

namespace fastconv {

/// How a box lies in shared memory: as it is, or with the 16-byte chunks of a row of 32, 64 or 128 bytes exchanged.
/// With the address a in shared memory, chunk bits (a >> 4) change by (a >> 7) & 1, 3 or 7: columns then meet all
/// banks.
enum class Swizzle : uint8_t { kNone, k32, k64, k128 };

struct alignas(64) TensorMap {
  unsigned char bytes[128];
};

/// A tensor of up to five axes, innermost first, and the box that a copy moves. Strides are in bytes; that of axis 0 is
/// the element. A copy takes the elements at + 0, step, 2 step ... of each axis that lie within `box`; outside the
/// tensor loads give zero and stores do nothing.
///
/// Assumes: data and strides are multiples of 16 bytes, a box's row too; the row of a swizzled box is its swizzle's
/// span.
struct TiledTensor {
  DType dtype = DType::kBFloat16;
  const void* data = nullptr;
  int rank = 0;
  int64_t extent[5] = {1, 1, 1, 1, 1}, stride[5] = {};
  int box[5] = {1, 1, 1, 1, 1}, step[5] = {1, 1, 1, 1, 1};
  Swizzle swizzle = Swizzle::kNone;
};

/// The same for images N (D) H W C, axes C W H (D) N: a copy takes `channels` of `pixels` one after the other. Their
/// places, to which a tap is added, run over lower ... extent - 1 + upper of W, H (and D) in steps, W fastest, then
/// over N.
struct Im2colTensor {
  DType dtype = DType::kBFloat16;
  const void* data = nullptr;
  int rank = 0;  // 4 or 5
  int64_t extent[5] = {1, 1, 1, 1, 1}, stride[5] = {};
  int step[3] = {1, 1, 1}, lower[3] = {}, upper[3] = {};  // of W, H, D
  int channels = 0, pixels = 0;
  Swizzle swizzle = Swizzle::kNone;
};

/// Bytes in a row that a swizzle exchanges.
FASTCONV_HOST_DEVICE int span_of(Swizzle swizzle) { return swizzle == Swizzle::kNone ? 0 : 16 << int(swizzle); }

/// Throws std::runtime_error with the reason where a tensor map cannot be made.
TensorMap tensor_map(const TiledTensor& tensor);
TensorMap tensor_map(const Im2colTensor& tensor);

namespace tensor_map_detail {

inline void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(std::string("fastconv: tensor map: ") + what);
}

inline int bytes_of(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

/// What both kinds need; `row` is the elements of one row of a box.
template <class Tensor>
void check(const Tensor& tensor, int row) {
  require(reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0, "the tensor is not aligned to 16 bytes");
  for (int i = 0; i < tensor.rank; ++i)
    require(tensor.extent[i] >= 1 && tensor.extent[i] < int64_t{1} << 31, "an extent below 1 or above 2^31 - 1");
  for (int i = 1; i < tensor.rank; ++i)
    require(tensor.stride[i] % 16 == 0 && tensor.stride[i] > 0 && tensor.stride[i] < int64_t{1} << 40,
            "a stride that is not a multiple of 16 bytes below 2^40");
  const int row_bytes = row * bytes_of(tensor.dtype);
  require(row >= 1 && row <= 256 && row_bytes % 16 == 0, "a box's row that is not a multiple of 16 bytes");
  require(tensor.swizzle == Swizzle::kNone || row_bytes == span_of(tensor.swizzle),
          "the row of a swizzled box has not the length of its swizzle");
}

inline void check(const TiledTensor& tensor) {
  require(tensor.rank >= 2 && tensor.rank <= 5, "a tiled tensor has 2 to 5 axes");
  for (int i = 0; i < tensor.rank; ++i) {
    require(tensor.box[i] >= 1 && tensor.box[i] <= 256, "a box's extent is 1 to 256");
    require(tensor.step[i] >= 1 && tensor.step[i] <= 8, "a step is 1 to 8");
  }
  require(tensor.step[0] == 1, "elements of a row lie side by side");
  check(tensor, tensor.box[0]);
}

inline void check(const Im2colTensor& tensor) {
  require(tensor.rank == 4 || tensor.rank == 5, "an im2col tensor has 4 or 5 axes");
  const int most = tensor.rank == 4 ? 128 : 16;
  for (int i = 0; i < tensor.rank - 2; ++i) {
    require(tensor.step[i] >= 1 && tensor.step[i] <= 8, "a step is 1 to 8");
    for (int corner : {tensor.lower[i], tensor.upper[i]})
      require(corner >= -most && corner < most, "a corner beyond -128 ... 127 (4 axes) or -16 ... 15 (5 axes)");
  }
  require(tensor.pixels >= 1 && tensor.pixels <= 1024, "a copy takes 1 to 1024 pixels");
  check(tensor, tensor.channels);
}

}  // namespace tensor_map_detail

#if defined(__CUDACC__)
namespace tensor_map_detail {

/// A function of the driver, by name: libcuda is not linked.
template <class Function>
Function* driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
  require(error == cudaSuccess, "CUDA cannot be asked for the driver's functions");
  require(result == cudaDriverEntryPointSuccess && found, "the driver is older than CUDA 12");
  return reinterpret_cast<Function*>(found);
}

inline CUtensorMapDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
    case DType::kFloat32: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::kFloat16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::kUInt8:
    case DType::kInt8: return CU_TENSOR_MAP_DATA_TYPE_UINT8;
    case DType::kBFloat16: break;
  }
  return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

inline CUtensorMapSwizzle mode_of(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::k32: return CU_TENSOR_MAP_SWIZZLE_32B;
    case Swizzle::k64: return CU_TENSOR_MAP_SWIZZLE_64B;
    case Swizzle::k128: return CU_TENSOR_MAP_SWIZZLE_128B;
    case Swizzle::kNone: break;
  }
  return CU_TENSOR_MAP_SWIZZLE_NONE;
}

/// Extents and strides as the driver takes them.
template <class Tensor>
struct Axes {
  cuuint64_t extent[5], stride[4];
  explicit Axes(const Tensor& tensor) {
    for (int i = 0; i < tensor.rank; ++i) extent[i] = static_cast<cuuint64_t>(tensor.extent[i]);
    for (int i = 1; i < tensor.rank; ++i) stride[i - 1] = static_cast<cuuint64_t>(tensor.stride[i]);
  }
};

}  // namespace tensor_map_detail

inline TensorMap tensor_map(const TiledTensor& tensor) {
  using namespace tensor_map_detail;
  check(tensor);
  static auto* const encode = driver_function<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  const Axes<TiledTensor> axes(tensor);
  cuuint32_t box[5], step[5];
  for (int i = 0; i < tensor.rank; ++i) {
    box[i] = static_cast<cuuint32_t>(tensor.box[i]);
    step[i] = static_cast<cuuint32_t>(tensor.step[i]);
  }
  TensorMap map;
  const CUresult result =
      encode(reinterpret_cast<CUtensorMap*>(&map), type_of(tensor.dtype), static_cast<cuuint32_t>(tensor.rank),
             const_cast<void*>(tensor.data), axes.extent, axes.stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
             mode_of(tensor.swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(result == CUDA_SUCCESS, "cuTensorMapEncodeTiled refused it");
  return map;
}

inline TensorMap tensor_map(const Im2colTensor& tensor) {
  using namespace tensor_map_detail;
  check(tensor);
  static auto* const encode = driver_function<decltype(cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  const Axes<Im2colTensor> axes(tensor);
  cuuint32_t step[5] = {1, 1, 1, 1, 1};
  for (int i = 0; i < tensor.rank - 2; ++i) step[i + 1] = static_cast<cuuint32_t>(tensor.step[i]);
  TensorMap map;
  const CUresult result =
      encode(reinterpret_cast<CUtensorMap*>(&map), type_of(tensor.dtype), static_cast<cuuint32_t>(tensor.rank),
             const_cast<void*>(tensor.data), axes.extent, axes.stride, tensor.lower, tensor.upper,
             static_cast<cuuint32_t>(tensor.channels), static_cast<cuuint32_t>(tensor.pixels), step,
             CU_TENSOR_MAP_INTERLEAVE_NONE, mode_of(tensor.swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(result == CUDA_SUCCESS, "cuTensorMapEncodeIm2col refused it");
  // Drivers up to 13.1 mark small tensors in a way that im2col copies do not bear; CUTLASS clears the bit too.
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver <= 13010 && tensor.extent[tensor.rank - 1] * tensor.stride[tensor.rank - 1] < 131072)
    map.bytes[8 + 21 / 8] &= static_cast<unsigned char>(~(1u << 21 % 8));
  return map;
}
#endif

}  // namespace fastconv
