#include "python/arrays.h"

#include <stdexcept>
#include <vector>

namespace py = pybind11;

namespace fastconv {
namespace {

using Shape = std::vector<py::ssize_t>;

std::string text_of(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

Shape shape_of(const py::array& array) { return Shape(array.shape(), array.shape() + array.ndim()); }

Shape activation_shape(const Extents& e, bool depth) {
  Shape shape{e.N};
  if (e.layout == Layout::kNchw) shape.push_back(e.channels);
  for (int axis = depth ? 0 : 1; axis < 3; ++axis) shape.push_back(e.axes[axis]);
  if (e.layout == Layout::kNhwc) shape.push_back(e.channels);
  return shape;
}

Shape weight_shape(const WeightAxes& extents, bool depth) {
  Shape shape{extents.axes[0], extents.axes[1]};
  for (int axis = depth ? 2 : 3; axis < 5; ++axis) shape.push_back(extents.axes[axis]);
  return shape;
}

[[noreturn]] void refuse(const char* name, const std::string& is, const std::string& must) {
  throw std::invalid_argument(std::string(name) + " " + is + "; " + must);
}

void check_dtype(const ArrayWanted& wanted, const py::array& array) {
  if (array.dtype().is(wanted.dtype) || array.dtype().equal(wanted.dtype)) return;
  refuse(wanted.name, "has dtype " + std::string(py::str(array.dtype())),
         "it must be " + std::string(py::str(wanted.dtype)));
}

/// `array` has the extents with a depth axis or, where there is no depth, those without.
void check_shape(const ArrayWanted& wanted, const py::array& array, const Shape& plain, const Shape& with_depth,
                 bool has_depth) {
  const Shape shape = shape_of(array);
  if (shape == with_depth || (!has_depth && shape == plain)) return;
  refuse(wanted.name, "has shape " + text_of(shape),
         "problem " + wanted.problem + " needs " + text_of(has_depth ? with_depth : plain));
}

void check_access(const ArrayWanted& wanted, const py::array& array) {
  if (wanted.writable && !array.writeable()) refuse(wanted.name, "is read-only", "it must be writable");
  if (reinterpret_cast<uintptr_t>(array.data()) % static_cast<size_t>(array.itemsize()))
    refuse(wanted.name, "is not aligned to its elements", "it must be");
}

}  // namespace

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return py::dtype("float32");
    case DType::kFloat64: return py::dtype("float64");
    case DType::kBFloat16: return py::dtype("uint16");  // NumPy has no bfloat16: its bits
    case DType::kFloat16: return py::dtype("float16");
    case DType::kUInt8: return py::dtype("uint8");
    case DType::kInt8: return py::dtype("int8");
  }
  throw std::logic_error("unknown dtype");
}

py::dtype numpy_dtype(IndexType type) { return py::dtype(type == IndexType::kInt64 ? "int64" : "uint8"); }

void* activation_data(const ArrayWanted& wanted, const py::array& array, const Extents& extents, bool has_depth) {
  check_dtype(wanted, array);
  check_shape(wanted, array, activation_shape(extents, false), activation_shape(extents, true), has_depth);
  if (!(array.flags() & py::array::c_style)) refuse(wanted.name, "is not contiguous", "the last axis must lie densest");
  check_access(wanted, array);
  return const_cast<void*>(array.data());
}

py::array new_activation(const py::dtype& dtype, const Extents& extents, bool has_depth) {
  return py::array(dtype, activation_shape(extents, has_depth));
}

py::array new_weight(const py::dtype& dtype, const WeightAxes& extents, bool has_depth) {
  return py::array(dtype, weight_shape(extents, has_depth));
}

void* weight_data(const ArrayWanted& wanted, const py::array& array, const WeightAxes& extents, bool has_depth,
                  WeightAxes* strides) {
  check_dtype(wanted, array);
  check_shape(wanted, array, weight_shape(extents, false), weight_shape(extents, true), has_depth);
  check_access(wanted, array);
  const int spatial = static_cast<int>(array.ndim()) - 2;
  for (int axis = 0; axis < 5; ++axis) {
    const int own = axis < 2 ? axis : axis - 3 + spatial;  // where the array has it
    if (own < 2 && axis >= 2) {
      strides->axes[axis] = 0;  // no depth axis
      continue;
    }
    if (array.strides(own) % array.itemsize())
      refuse(wanted.name, "has a stride that is not whole elements", "it must be");
    strides->axes[axis] = array.strides(own) / array.itemsize();
  }
  return const_cast<void*>(array.data());
}

void* channel_data(const ArrayWanted& wanted, const py::array& array, int64_t channels) {
  check_dtype(wanted, array);
  if (array.ndim() != 1 || array.shape(0) != channels)
    refuse(wanted.name, "has shape " + text_of(shape_of(array)),
           "the output has " + std::to_string(channels) + " channels");
  if (!(array.flags() & py::array::c_style)) refuse(wanted.name, "is not contiguous", "it must be");
  check_access(wanted, array);
  return const_cast<void*>(array.data());
}

}  // namespace fastconv
