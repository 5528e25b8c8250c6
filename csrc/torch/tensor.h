// torch's tensors through the C functions of the LibTorch stable ABI, and arguments as the dispatcher hands them over.
//
// The functions are called directly rather than through torch/csrc/stable's classes, because a convolution of a few
// pixels takes a microsecond and every reference count shows. This is the only folder that includes torch.
#pragma once

#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/types.h"
#include "torch/device.h"

namespace fastconv::binding {

/// Throws std::runtime_error with torch's own text where this torch hands it over (from 2.13 on).
void check(AOTITorchError code);

/// A reference to a tensor, given back at the end of the scope.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(AtenTensorHandle handle) : handle_(handle) {}
  Tensor(Tensor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Tensor() {
    if (handle_) aoti_torch_delete_tensor_object(handle_);
  }

  AtenTensorHandle get() const { return handle_; }
  AtenTensorHandle release() { return std::exchange(handle_, nullptr); }
  explicit operator bool() const { return handle_ != nullptr; }

  int64_t dim() const {
    int64_t value;
    check(aoti_torch_get_dim(handle_, &value));
    return value;
  }
  const int64_t* sizes() const {
    int64_t* value;
    check(aoti_torch_get_sizes(handle_, &value));
    return value;
  }
  const int64_t* strides() const {
    int64_t* value;
    check(aoti_torch_get_strides(handle_, &value));
    return value;
  }
  int32_t dtype() const {
    int32_t value;
    check(aoti_torch_get_dtype(handle_, &value));
    return value;
  }
  Device device() const { return device_of(handle_); }
  /// Whether the CPU can read its memory, in a library of any kind.
  bool is_on_cpu() const;
  void* data() const {
    void* value;
    check(aoti_torch_get_data_ptr(handle_, &value));
    return value;
  }

 private:
  AtenTensorHandle handle_ = nullptr;
};

/// An uninitialised tensor; `dtype` is torch's number.
Tensor empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype, const Device& device);
/// False where memory is not to be had.
bool try_empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype, const Device& device,
                       Tensor* out);
/// A copy of a dense tensor with its strides.
Tensor clone(const Tensor& tensor);
/// A list of up to kMax integers: one per spatial axis, or the sizes of a tensor. What makes one throws for more.
struct Ints {
  static constexpr int64_t kMax = 8;
  int64_t count = 0;
  int64_t values[kMax] = {};
  int64_t operator[](int64_t i) const { return values[i]; }
  bool operator==(const Ints&) const = default;
};

/// Takes one argument after another off a boxed kernel's stack, with the ownership that goes with it. What was not
/// taken when an exception flies is given back.
class Arguments {
 public:
  /// `types` has a letter for each argument: T a tensor, t an optional one, l a list, m an optional list, s a string,
  /// i an optional integer, v any plain value.
  Arguments(StableIValue* stack, const char* types) : next_(stack), types_(types) {}
  Arguments(const Arguments&) = delete;
  ~Arguments();
  Tensor tensor();
  /// Empty for None and for a tensor that is undefined.
  Tensor optional_tensor();
  Ints ints();
  bool optional_ints(Ints* out);
  int64_t integer();
  bool optional_integer(int64_t* out);
  bool boolean();
  std::string string();
  template <int kCount>
  void booleans(bool (&out)[kCount]) {
    const Ints list = list_of_booleans();
    for (int i = 0; i < kCount; ++i) out[i] = list[i] != 0;
  }

 private:
  StableIValue take();
  Ints list_of_booleans();
  StableIValue* next_;
  const char* types_;
};

/// One more reference, for a callee that gives back what it is handed; None where an optional one is empty.
StableIValue lend(const Tensor& tensor);
StableIValue lend_optional(const Tensor& tensor);

inline StableIValue result(Tensor tensor) { return torch::stable::detail::from(tensor.release()); }
StableIValue result(const std::string& text);
/// None on the other side of the dispatcher where `tensor` is empty.
StableIValue result_or_undefined(Tensor tensor);

/// torch's own function of this name, in `library`; null where this torch has none. Python loads torch's libraries
/// where not all others see their symbols.
void* torch_symbol(const char* name, const char* library);

/// torch's number for the dtype and back. `dtype_of` is false for what fastconv has no kernels for.
bool dtype_of(int32_t torch_dtype, DType* out);
int32_t torch_dtype_of(DType dtype);

}  // namespace fastconv::binding
