// NumPy arrays as a call's operands: checked in words before a kernel sees a pointer.
#pragma once

#include <pybind11/numpy.h>

#include <string>

#include "core/operand.h"

namespace fastconv {

/// What an operand has to be: `problem` is its text, for errors.
struct ArrayWanted {
  const char* name;
  pybind11::dtype dtype;
  const std::string& problem;
  bool writable;
};

pybind11::dtype numpy_dtype(DType dtype);
pybind11::dtype numpy_dtype(IndexType type);

/// The data of a C-contiguous array of an activation's extents: N,H,W,C or N,C,H,W, with D before H; a problem without
/// depth takes both forms. bfloat16 is uint16. Throws std::invalid_argument naming the argument.
void* activation_data(const ArrayWanted& wanted, const pybind11::array& array, const Extents& extents, bool has_depth);
pybind11::array new_activation(const pybind11::dtype& dtype, const Extents& extents, bool has_depth);

/// A weight of extents K, C/groups, (T,) R, S with any strides, so that krsc is a transposed view.
void* weight_data(const ArrayWanted& wanted, const pybind11::array& array, const WeightAxes& extents, bool has_depth,
                  WeightAxes* strides);
pybind11::array new_weight(const pybind11::dtype& dtype, const WeightAxes& extents, bool has_depth);

/// One number a channel.
void* channel_data(const ArrayWanted& wanted, const pybind11::array& array, int64_t channels);

}  // namespace fastconv
