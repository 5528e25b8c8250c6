// NumPy arrays as a problem's operands: checked in words before a kernel sees a pointer.
#pragma once

#include <pybind11/numpy.h>

#include <string>

#include "core/kernel.h"

namespace fastconv {

/// The extents of an activation as an array in the problem's layout: N,H,W,C or N,C,H,W, with D before H where the
/// problem has a depth axis. A 2-d problem takes both forms.
enum class Operand { kX, kY };

/// The data of a C-contiguous array of the problem's dtype and an activation's extents. bfloat16 is uint16.
/// Throws std::invalid_argument naming the argument.
void* activation_data(const char* name, const pybind11::array& array, const ConvProblem& problem, Operand operand,
                      bool writable);
/// A new array for an activation, or for the weight in K, C/groups, (T,) R, S.
pybind11::array new_activation(const ConvProblem& problem, Operand operand);
pybind11::array new_weight(const ConvProblem& problem);

/// A weight of extents K, C/groups, (T,) R, S with any strides, so that krsc is a transposed view.
Filter filter_of(const char* name, const pybind11::array& array, const ConvProblem& problem, bool writable);

/// `scale` or `shift` of an epilogue: one number a channel in the accumulation type. Null for None.
const void* channel_data(const char* name, const pybind11::object& object, const ConvProblem& problem,
                         int64_t channels);

}  // namespace fastconv
