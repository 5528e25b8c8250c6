// One register tile from A where it lies to finished output: the inner body of the direct and pointwise kernels.
#pragma once

#include "core/cpu/epilogue.h"
#include "core/cpu/gemm.h"

namespace fastconv {
namespace {

/// Where the products of one output lie in A: `outer` x `inner` runs of `length` neighbouring floats.
///
/// For a dense filter the S * C values under one filter row are one run; with dilation or groups each tap is its own.
struct Runs {
  int64_t outer, outer_stride;
  int64_t inner, inner_stride;
  int64_t length;
  int64_t depth() const { return outer * inner * length; }
};

/// Calls `body(block, from, done)` for blocks of the runs of no more than kBlockOfSum products: `from` is where a block
/// begins in A, `done` counts the products before it.
template <class Body>
FASTCONV_INLINE void for_each_block(const Runs& runs, Body&& body) {
  const int64_t length = least(runs.length, kBlockOfSum);
  const int64_t inner = least(runs.inner, most(1, kBlockOfSum / runs.length));
  const int64_t outer = most(1, kBlockOfSum / (runs.length * runs.inner));
  int64_t done = 0;
  for (int64_t i = 0; i < runs.outer; i += outer)
    for (int64_t j = 0; j < runs.inner; j += inner)
      for (int64_t l = 0; l < runs.length; l += length) {
        Runs block = runs;
        block.outer = least(outer, runs.outer - i), block.inner = least(inner, runs.inner - j);
        block.length = least(length, runs.length - l);
        body(block, i * runs.outer_stride + j * runs.inner_stride + l, done);
        done += block.depth();
      }
}

/// One block's sums of MR x NV vectors, written or added to total[i * stride + j * kLanes].
template <int MR, int NV>
__attribute__((noinline)) void sum_block(const float* a, int64_t a_stride, const Runs& runs, const float* b, bool first,
                                         float* total, int64_t stride) {
  Vec acc[MR][NV];
  clear(acc);
  for (int64_t i = 0; i < runs.outer; ++i)
    for (int64_t j = 0; j < runs.inner; ++j) {
      accumulate<MR, NV>(acc, a + i * runs.outer_stride + j * runs.inner_stride, a_stride, b, runs.length);
      b += runs.length * NV * kLanes;
    }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      float* to = total + i * stride + j * kLanes;
      store(to, first ? acc[i][j] : load(to) + acc[i][j]);
    }
}

/// The output a tile writes: `pixel` is the first pixel's offset, its neighbours follow at `pixel_stride`.
struct TileOut {
  float* data;
  int64_t pixel, pixel_stride;
  int64_t channel, channels;  // the first of the tile and how many exist from there
  const Epilogue* epilogue;
  bool streamed = false;  // past the caches
};

/// Finishes and writes the rows x vectors sums of a tile. Out of line, and what a vector of channels has in common read
/// once: in every tile it would be most of its code.
__attribute__((noinline)) void write_tile(const float* sums, int rows, int vectors, const TileOut& out) {
  const Epilogue& e = *out.epilogue;
  for (int j = 0; j < vectors; ++j) {
    const int64_t channel = out.channel + j * kLanes, n = least(out.channels - j * kLanes, kLanes);
    if (n <= 0) return;
    const float* residual = static_cast<const float*>(e.residual);
    const Vec scale = e.scale ? load(static_cast<const float*>(e.scale) + channel, n) : broadcast(1.0f);
    const Vec shift = e.shift ? load(static_cast<const float*>(e.shift) + channel, n) : zero();
    with_activation(e.activation, [&](auto activation) {
      for (int i = 0; i < rows; ++i) {
        const int64_t at = out.pixel + i * out.pixel_stride + channel;
        Vec sum = load(sums + (i * vectors + j) * kLanes);
        if (e.scale) sum = sum * scale;
        if (e.shift) sum = sum + shift;
        if (residual) sum = sum + (n == kLanes ? load(residual + at) : load(residual + at, n));
        sum = activate(sum, activation());
        if (n == kLanes) store(out.data + at, sum);
        else store(out.data + at, sum, n);
      }
    });
  }
}

template <int MR, int NV>
__attribute__((noinline)) void panel_tile_in_blocks(const float* a, int64_t a_stride, const Runs& runs, const float* b,
                                                    const TileOut& out) {
  alignas(64) float total[MR * NV * kLanes];
  for_each_block(runs, [&](const Runs& block, int64_t from, int64_t done) {
    sum_block<MR, NV>(a + from, a_stride, block, b + done * NV * kLanes, done == 0, total, NV * kLanes);
  });
  write_tile(total, MR, NV, out);
}

template <int MR, int NV>
void panel_tile(const float* a, int64_t a_stride, const Runs& runs, const float* b, const TileOut& out) {
  if (runs.depth() > kLongestChain) return panel_tile_in_blocks<MR, NV>(a, a_stride, runs, b, out);
  Vec acc[MR][NV];
  clear(acc);
  for (int64_t i = 0; i < runs.outer; ++i)
    for (int64_t j = 0; j < runs.inner; ++j) {
      accumulate<MR, NV>(acc, a + i * runs.outer_stride + j * runs.inner_stride, a_stride, b, runs.length);
      b += runs.length * NV * kLanes;
    }
  if (out.channels >= NV * kLanes && out.epilogue->empty()) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) {
        float* to = out.data + out.pixel + i * out.pixel_stride + out.channel + j * kLanes;
        if (out.streamed) stream(to, acc[i][j]);
        else store(to, acc[i][j]);
      }
    return;
  }
  alignas(64) float sums[MR * NV * kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) store(sums + (i * NV + j) * kLanes, acc[i][j]);
  write_tile(sums, MR, NV, out);
}

using PanelTile = void (*)(const float*, int64_t, const Runs&, const float*, const TileOut&);

/// The tile of `rows` x `vectors`, 1 <= rows <= kTileRows, 1 <= vectors <= kTileVectors.
template <int NV = kTileVectors>
PanelTile panel_tile_for(int64_t rows, int64_t vectors) {
  if constexpr (NV > 1) {
    if (vectors < NV) return panel_tile_for<NV - 1>(rows, vectors);
  }
  PanelTile tile = nullptr;
  with_rows(rows, [&](auto count) { tile = panel_tile<decltype(count)::value, NV>; });
  return tile;
}

}  // namespace
}  // namespace fastconv
