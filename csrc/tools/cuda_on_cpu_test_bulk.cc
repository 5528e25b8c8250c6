// Bulk copies: boxes, im2col, swizzles, what lies outside, stores, clusters.

#include <vector>

#include "tools/cuda_on_cpu_test.h"

namespace fastconv {
namespace {

using Values = std::vector<float>;

Values counted(size_t count) {
  Values values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i + 1);
  return values;
}

struct Memory {
  alignas(1024) char box[8192];
  uint64_t barrier;
};
constexpr Shape kOneWarp{.threads = 32, .shared_bytes = sizeof(Memory)};

/// Thread 0 begins `load(box, barrier)`; all wait for `bytes`, then `look` sees the box.
template <class Load, class Look>
void load_and_look(unsigned bytes, Load&& load, Look&& look) {
  auto& s = shared_memory<Memory>();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&s.barrier, 1);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_arrive_expect_tx(&s.barrier, bytes);
    load(s.box, &s.barrier);
  }
  __syncwarp();
  ptx::mbarrier_wait(&s.barrier, 0);
  if (threadIdx.x == 7) look(s.box);
}

/// Floats, dense, of the given extents; the box is the same along every axis but the first.
TiledTensor floats(const Values& values, int rank, const int64_t (&extent)[5], const int (&box)[5]) {
  TiledTensor tensor;
  tensor.dtype = DType::kFloat32;
  tensor.data = values.data();
  tensor.rank = rank;
  int64_t stride = 4;
  for (int i = 0; i < rank; ++i) {
    tensor.extent[i] = extent[i], tensor.box[i] = box[i], tensor.stride[i] = stride;
    stride *= extent[i];
  }
  return tensor;
}

void test_boxes() {
  // 12 x 5 x 3 x 2 x 2, boxes of 8 x 3 x 2 x 2 x 2 that begin inside and before the tensor.
  const Values values = counted(12 * 5 * 3 * 2 * 2);
  const int64_t extent[5] = {12, 5, 3, 2, 2};
  const auto element = [&](int c, int w, int h, int d, int n) {
    const bool inside = c >= 0 && c < 12 && w >= 0 && w < 5 && h >= 0 && h < 3 && d >= 0 && d < 2 && n >= 0 && n < 2;
    return inside ? values[static_cast<size_t>((((n * 2 + d) * 3 + h) * 5 + w) * 12 + c)] : 0.0f;
  };
  const int box[5] = {8, 3, 2, 2, 2};
  const TensorMap map4 = tensor_map(floats(values, 4, extent, box)), map5 = tensor_map(floats(values, 5, extent, box));
  const TensorMap map2 = tensor_map(floats(values, 2, extent, box)), map3 = tensor_map(floats(values, 3, extent, box));
  bool right[6] = {true, true, true, true, true, true};
  for (int c : {-3, 2, 6, 12})
    for (int w : {-2, 0, 4}) {
      const auto check = [&](int rank, const char* memory) {
        const auto* got = reinterpret_cast<const float*>(memory);
        const int n1 = 3, n2 = rank > 2 ? 2 : 1, n3 = rank > 3 ? 2 : 1, n4 = rank > 4 ? 2 : 1;
        const int h = rank > 2 ? 2 : 0, d = rank > 3 ? -1 : 0, n = rank > 4 ? 1 : 0;
        for (int e = 0; e < n4; ++e)
          for (int l = 0; l < n3; ++l)
            for (int k = 0; k < n2; ++k)
              for (int j = 0; j < n1; ++j)
                for (int i = 0; i < 8; ++i) right[rank] &= *got++ == element(c + i, w + j, h + k, d + l, n + e);
      };
      const auto copy = [&](unsigned rows, auto&& load, int rank) {
        run(kOneWarp, [&] { load_and_look(rows * 32, load, [&](const char* memory) { check(rank, memory); }); });
      };
      copy(3, [&](void* to, uint64_t* barrier) { ptx::tma_load(to, map2, {c, w}, barrier); }, 2);
      copy(6, [&](void* to, uint64_t* barrier) { ptx::tma_load(to, map3, {c, w, 2}, barrier); }, 3);
      copy(12, [&](void* to, uint64_t* barrier) { ptx::tma_load(to, map4, {c, w, 2, -1}, barrier); }, 4);
      copy(24, [&](void* to, uint64_t* barrier) { ptx::tma_load(to, map5, {c, w, 2, -1, 1}, barrier); }, 5);
    }
  for (int rank = 2; rank <= 5; ++rank) expect(right[rank], "tma_load of a box of rank " + std::to_string(rank));

  // Every second column of a row of five, from column 1: 1, 3; the third is outside.
  TiledTensor stepping = floats(values, 2, extent, {4, 5, 1, 1, 1});
  stepping.step[1] = 2;
  const TensorMap steps = tensor_map(stepping);
  bool stepped = true;
  run(kOneWarp, [&] {
    load_and_look(
        48, [&](void* to, uint64_t* barrier) { ptx::tma_load(to, steps, {0, 1}, barrier); },
        [&](const char* memory) {
          const auto* got = reinterpret_cast<const float*>(memory);
          for (int row = 0; row < 3; ++row)
            for (int i = 0; i < 4; ++i) stepped &= got[row * 4 + i] == element(i, 1 + 2 * row, 0, 0, 0);
        });
  });
  expect(stepped, "tma_load with steps");
}

void test_swizzles() {
  std::vector<uint16_t> values(16 * 64);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(i);
  for (const Swizzle swizzle : {Swizzle::k32, Swizzle::k64, Swizzle::k128}) {
    const int row = span_of(swizzle) / 2;
    TiledTensor tensor;
    tensor.data = values.data();
    tensor.rank = 2;
    tensor.extent[0] = 64, tensor.extent[1] = 16, tensor.stride[1] = 128;
    tensor.box[0] = row, tensor.box[1] = 16;
    tensor.swizzle = swizzle;
    const TensorMap map = tensor_map(tensor);
    bool right = true;
    run(kOneWarp, [&] {
      load_and_look(
          static_cast<unsigned>(row * 2 * 16),
          [&](void* to, uint64_t* barrier) { ptx::tma_load(to, map, {0, 0}, barrier); },
          [&](const char* memory) {
            const auto* got = reinterpret_cast<const uint16_t*>(memory);
            for (int r = 0; r < 16; ++r)
              for (int c = 0; c < row; ++c) {
                // By rows: of 128 bytes each changes the chunk, of 64 every second, of 32 every fourth.
                const int chunk = c / 8 ^ (row == 64 ? r % 8 : row == 32 ? r / 2 % 4 : r / 4 % 2);
                right &= got[r * row + chunk * 8 + c % 8] == r * 64 + c;
              }
          });
    });
    expect(right, "a swizzle of " + std::to_string(row * 2) + " bytes");
  }
}

void test_im2col() {
  // Images 2 x 5 x 6 x 8 (N H W C), a 3 x 3 filter, padding 1, stride 2, dilation 1: 3 x 3 outputs each.
  const Values values = counted(2 * 5 * 6 * 8);
  Im2colTensor tensor;
  tensor.dtype = DType::kFloat32;
  tensor.data = values.data();
  tensor.rank = 4;
  const int64_t extent[4] = {8, 6, 5, 2};
  int64_t stride = 4;
  for (int i = 0; i < 4; ++i) tensor.extent[i] = extent[i], tensor.stride[i] = stride, stride *= extent[i];
  tensor.step[0] = tensor.step[1] = 2;
  tensor.lower[0] = tensor.lower[1] = -1;
  tensor.upper[0] = tensor.upper[1] = 1 - 2;
  tensor.channels = 4, tensor.pixels = 14;
  const TensorMap map = tensor_map(tensor);
  bool right = true;
  for (const int first : {0, 4, 7})
    for (int tap = 0; tap < 9; ++tap) {
      const int r = tap / 3, s = tap % 3;
      const int at[4] = {4, first % 3 * 2 - 1, first / 3 % 3 * 2 - 1, first / 9};
      run(kOneWarp, [&] {
        load_and_look(
            14 * 16,
            [&](void* to, uint64_t* barrier) {
              ptx::tma_load_im2col(to, map, at, {static_cast<uint16_t>(s), static_cast<uint16_t>(r)}, barrier);
            },
            [&](const char* memory) {
              const auto* got = reinterpret_cast<const float*>(memory);
              for (int i = 0; i < 14; ++i) {
                const int pixel = first + i, n = pixel / 9, h = pixel / 3 % 3 * 2 - 1 + r, w = pixel % 3 * 2 - 1 + s;
                const bool inside = n < 2 && h >= 0 && h < 5 && w >= 0 && w < 6;
                for (int c = 0; c < 4; ++c)
                  right &= got[i * 4 + c] ==
                           (inside ? values[static_cast<size_t>(((n * 5 + h) * 6 + w) * 8 + 4 + c)] : 0.0f);
              }
            });
      });
    }
  expect(right, "tma_load_im2col of images");

  // One volume 3 x 3 x 3 x 4, a 2 x 2 x 2 filter without padding: 2 x 2 x 2 outputs.
  const Values volume = counted(3 * 3 * 3 * 4);
  Im2colTensor cube;
  cube.dtype = DType::kFloat32;
  cube.data = volume.data();
  cube.rank = 5;
  for (int i = 0; i < 4; ++i) cube.extent[i] = i == 0 ? 4 : 3;
  cube.stride[0] = 4, cube.stride[1] = 16, cube.stride[2] = 48, cube.stride[3] = 144, cube.stride[4] = 432;
  for (int& upper : cube.upper) upper = -1;
  cube.channels = 4, cube.pixels = 8;
  const TensorMap cube_map = tensor_map(cube);
  bool cube_right = true;
  run(kOneWarp, [&] {
    load_and_look(
        128,
        [&](void* to, uint64_t* barrier) { ptx::tma_load_im2col(to, cube_map, {0, 0, 0, 0, 0}, {1, 0, 1}, barrier); },
        [&](const char* memory) {
          const auto* got = reinterpret_cast<const float*>(memory);
          for (int i = 0; i < 8; ++i) {
            const int d = i / 4 + 1, h = i / 2 % 2, w = i % 2 + 1;
            cube_right &= got[i * 4 + 2] == volume[static_cast<size_t>(((d * 3 + h) * 3 + w) * 4 + 2)];
          }
        });
  });
  expect(cube_right, "tma_load_im2col of volumes");
  expect(has(error_of(kOneWarp,
                      [&] {
                        auto& s = shared_memory<Memory>();
                        ptx::mbarrier_init(&s.barrier, 1);
                        ptx::tma_load(s.box, map, {0, 0, 0, 0}, &s.barrier);
                      }),
             "other kind"),
         "an im2col map in a tiled load");
}

void test_stores() {
  Values out(12 * 5);
  const int64_t extent[5] = {12, 5, 1, 1, 1};
  const TensorMap map = tensor_map(floats(out, 2, extent, {8, 4, 1, 1, 1}));
  run(kOneWarp, [&] {
    auto& s = shared_memory<Memory>();
    auto* box = reinterpret_cast<float*>(s.box);
    box[threadIdx.x] = static_cast<float>(threadIdx.x + 1);
    ptx::fence_proxy_async();
    __syncwarp();
    if (threadIdx.x == 0) {
      ptx::tma_store(map, box, {6, 3});
      ptx::bulk_commit();
      ptx::bulk_wait_read<0>();
    }
    __syncwarp();
    box[threadIdx.x] = -1;  // was read
  });
  bool right = true;
  for (int w = 0; w < 5; ++w)
    for (int c = 0; c < 12; ++c) {
      const bool inside = w >= 3 && c >= 6;
      right &= out[static_cast<size_t>(w * 12 + c)] == static_cast<float>(inside ? (w - 3) * 8 + c - 6 + 1 : 0);
    }
  expect(right, "tma_store leaves out what is outside");
  expect(has(error_of(kOneWarp,
                      [&] {
                        if (threadIdx.x == 0) ptx::tma_store(map, shared_memory<Memory>().box, {0, 0});
                      }),
             "ended before"),
         "a store that is not waited for");
}

void test_multicast() {
  const Values values = counted(64);
  const TensorMap map = tensor_map(floats(values, 2, {16, 4, 1, 1, 1}, {16, 2, 1, 1, 1}));
  bool right = true;
  run({.threads = 32, .blocks = 2, .cluster = 2, .shared_bytes = sizeof(Memory)}, [&] {
    auto& s = shared_memory<Memory>();
    const int rank = static_cast<int>(ptx::cluster_rank());
    if (threadIdx.x == 0) {
      ptx::mbarrier_init(&s.barrier, 1);
      ptx::fence_mbarrier_init();
      ptx::mbarrier_arrive_expect_tx(&s.barrier, 256 + 128);
    }
    ptx::cluster_sync();
    // Each block loads two rows for both.
    if (threadIdx.x == 0) {
      ptx::tma_load_multicast(s.box + 128 * rank, map, {0, 2 * rank}, &s.barrier, 3);
      ptx::bulk_load(s.box + 1024, values.data() + 32 * rank, 128, &s.barrier);
    }
    ptx::mbarrier_wait(&s.barrier, 0);
    const auto* got = reinterpret_cast<const float*>(s.box);
    for (int i = 0; i < 64; ++i) right &= got[i] == static_cast<float>(i + 1);
    right &= got[256 + threadIdx.x] == values[static_cast<size_t>(32 * rank) + threadIdx.x];
    ptx::cluster_sync();
  });
  expect(right, "tma_load_multicast and bulk_load");
}

void test_refusals() {
  const Values values = counted(64);
  const auto reason = [&](auto&& change) -> std::string {
    TiledTensor tensor = floats(values, 2, {16, 4, 1, 1, 1}, {16, 2, 1, 1, 1});
    change(tensor);
    try {
      tensor_map(tensor);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  expect(reason([](TiledTensor&) {}).empty(), "a tensor map");
  expect(has(reason([](TiledTensor& t) { t.stride[1] = 20; }), "stride"), "a stride of 20 bytes");
  expect(has(reason([](TiledTensor& t) { t.box[0] = 3; }), "row"), "a box of 12 bytes");
  expect(has(reason([](TiledTensor& t) { t.swizzle = Swizzle::k128; }), "swizzle"), "a swizzle longer than the row");
}

}  // namespace

void test_bulk_copies() {
  test_boxes();
  test_swizzles();
  test_im2col();
  test_stores();
  test_multicast();
  test_refusals();
}

}  // namespace fastconv
