#include "python/arrays.h"

#include <sstream>
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

py::dtype dtype_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return py::dtype("float32");
    case DType::kFloat64: return py::dtype("float64");
    case DType::kBFloat16: return py::dtype("uint16");  // NumPy has no bfloat16: its bits
    case DType::kFloat16: return py::dtype("float16");
  }
  throw std::logic_error("unknown dtype");
}

Shape activation_shape(const ConvProblem& p, Operand operand, bool depth) {
  const bool x = operand == Operand::kX;
  const Layout layout = x ? p.x_layout : p.y_layout;
  Shape shape{p.N};
  if (layout == Layout::kNchw) shape.push_back(x ? p.C : p.K);
  if (depth) shape.push_back(x ? p.D : p.Z);
  shape.push_back(x ? p.H : p.P);
  shape.push_back(x ? p.W : p.Q);
  if (layout == Layout::kNhwc) shape.push_back(x ? p.C : p.K);
  return shape;
}

Shape weight_shape(const ConvProblem& p, bool depth) {
  Shape shape{p.K, p.C_per_group()};
  if (depth) shape.push_back(p.T);
  shape.push_back(p.R);
  shape.push_back(p.S);
  return shape;
}

[[noreturn]] void refuse(const char* name, const std::string& is, const std::string& must) {
  throw std::invalid_argument(std::string(name) + " " + is + "; " + must);
}

void check_dtype(const char* name, const py::array& array, const py::dtype& want) {
  if (array.dtype().is(want) || array.dtype().equal(want)) return;
  refuse(name, "has dtype " + std::string(py::str(array.dtype())), "it must be " + std::string(py::str(want)));
}

/// `array` has the plain extents, or, for a 2-d problem, the ones with a depth axis of 1.
void check_shape(const char* name, const py::array& array, const Shape& plain, const Shape& with_depth, bool is_2d,
                 const ConvProblem& p) {
  const Shape shape = shape_of(array);
  if (shape == with_depth || (is_2d && shape == plain)) return;
  refuse(name, "has shape " + text_of(shape), "problem " + encode(p) + " needs " + text_of(is_2d ? plain : with_depth));
}

void check_access(const char* name, const py::array& array, bool writable) {
  if (writable && !array.writeable()) refuse(name, "is read-only", "it must be writable");
  if (reinterpret_cast<uintptr_t>(array.data()) % static_cast<size_t>(array.itemsize()))
    refuse(name, "is not aligned to its elements", "it must be");
}

}  // namespace

void* activation_data(const char* name, const py::array& array, const ConvProblem& p, Operand operand, bool writable) {
  check_dtype(name, array, dtype_of(p.dtype));
  check_shape(name, array, activation_shape(p, operand, false), activation_shape(p, operand, true), p.is_2d(), p);
  if (!(array.flags() & py::array::c_style)) refuse(name, "is not contiguous", "the last axis must lie densest");
  check_access(name, array, writable);
  return const_cast<void*>(array.data());
}

py::array new_activation(const ConvProblem& p, Operand operand) {
  return py::array(dtype_of(p.dtype), activation_shape(p, operand, !p.is_2d()));
}

py::array new_weight(const ConvProblem& p) { return py::array(dtype_of(p.dtype), weight_shape(p, !p.is_2d())); }

Filter filter_of(const char* name, const py::array& array, const ConvProblem& p, bool writable) {
  check_dtype(name, array, dtype_of(p.dtype));
  check_shape(name, array, weight_shape(p, false), weight_shape(p, true), p.is_2d(), p);
  check_access(name, array, writable);
  const auto stride = [&](py::ssize_t axis) {
    const py::ssize_t bytes = array.strides(axis);
    if (bytes % array.itemsize()) refuse(name, "has a stride that is not whole elements", "it must be");
    return static_cast<int64_t>(bytes / array.itemsize());
  };
  const bool depth = array.ndim() == 5;
  Filter f;
  f.data = const_cast<void*>(array.data());
  f.stride_k = stride(0), f.stride_c = stride(1);
  f.stride_g = p.K_per_group() * f.stride_k;
  f.stride_t = depth ? stride(2) : 0;
  f.stride_r = stride(depth ? 3 : 2), f.stride_s = stride(depth ? 4 : 3);
  return f;
}

const void* channel_data(const char* name, const py::object& object, const ConvProblem& p, int64_t channels) {
  if (object.is_none()) return nullptr;
  if (!py::isinstance<py::array>(object))
    refuse(name, "is a " + std::string(py::str(py::type::of(object).attr("__name__"))), "it must be a NumPy array");
  const py::array array = py::reinterpret_borrow<py::array>(object);
  check_dtype(name, array, py::dtype(p.dtype == DType::kFloat64 ? "float64" : "float32"));
  if (array.ndim() != 1 || array.shape(0) != channels)
    refuse(name, "has shape " + text_of(shape_of(array)), "the output has " + std::to_string(channels) + " channels");
  if (!(array.flags() & py::array::c_style)) refuse(name, "is not contiguous", "it must be");
  check_access(name, array, false);
  return array.data();
}

}  // namespace fastconv
