#include "torch/tensor.h"

#include <dlfcn.h>

#include <optional>

namespace fastconv::binding {
namespace {

using torch::stable::detail::to;

std::string last_error() {
  // 2.13 keeps the text of the last exception; looked up at run time because the library targets 2.10.
  using What = const char* (*)();
  static const What what = reinterpret_cast<What>(dlsym(RTLD_DEFAULT, "torch_exception_get_what_without_backtrace"));
  const char* text = what ? what() : nullptr;
  return text && *text ? text : "an operation of torch failed; its message is on stderr";
}

struct DTypes {
  int32_t f32 = aoti_torch_dtype_float32(), f64 = aoti_torch_dtype_float64();
  int32_t bf16 = aoti_torch_dtype_bfloat16(), f16 = aoti_torch_dtype_float16();
};
const DTypes dtypes;

template <class Element>
Ints read_list(StableIValue value) {
  const auto list = to<StableListHandle>(value);
  size_t size = 0;
  AOTITorchError code = torch_list_size(list, &size);
  Ints out;
  out.count = static_cast<int64_t>(size);
  for (size_t i = 0; i < size && i < Ints::kMax && !code; ++i) {
    StableIValue element;
    code = torch_list_get_item(list, i, &element);
    if (!code) out.values[i] = static_cast<int64_t>(to<Element>(element));
  }
  torch_delete_list(list);
  check(code);
  if (out.count > Ints::kMax)
    throw std::runtime_error("fastconv: a list of " + std::to_string(out.count) + " numbers is too long for the " +
                             "arguments of convolutions and pools, which have at most three spatial axes");
  return out;
}

}  // namespace

void check(AOTITorchError code) {
  if (code) throw std::runtime_error(last_error());
}

bool try_empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype, const Device& device,
                       Tensor* out) {
  static const int32_t cpu = aoti_torch_device_type_cpu(), cuda = aoti_torch_device_type_cuda();
  AtenTensorHandle handle;
  if (aoti_torch_empty_strided(dim, sizes, strides, dtype, device.cuda ? cuda : cpu, device.index, &handle))
    return false;
  *out = Tensor(handle);
  return true;
}

Tensor empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype, const Device& device) {
  Tensor out;
  check(try_empty_strided(dim, sizes, strides, dtype, device, &out) ? AOTI_TORCH_SUCCESS : AOTI_TORCH_FAILURE);
  return out;
}

Tensor clone(const Tensor& tensor) {
  AtenTensorHandle handle;
  check(aoti_torch_clone(tensor.get(), &handle));
  return Tensor(handle);
}

bool Tensor::is_on_cpu() const {
  int32_t type = 0;
  check(aoti_torch_get_device_type(handle_, &type));
  return type == aoti_torch_device_type_cpu();
}

void* torch_symbol(const char* name, const char* library) {
  if (void* found = dlsym(RTLD_DEFAULT, name)) return found;
  void* loaded = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  return loaded ? dlsym(loaded, name) : nullptr;
}

StableIValue Arguments::take() {
  ++types_;
  return *next_++;
}

Arguments::~Arguments() {
  while (*types_) {
    switch (*types_) {
      case 'T': tensor(); break;
      case 't':
        if (const auto handle = to<std::optional<AtenTensorHandle>>(take())) Tensor{*handle};
        break;
      case 'l': torch_delete_list(to<StableListHandle>(take())); break;
      case 'm':
        if (const auto list = to<std::optional<StableListHandle>>(take())) torch_delete_list(*list);
        break;
      case 'i': to<std::optional<int64_t>>(take()); break;
      case 's': torch_delete_string(to<StringHandle>(take())); break;
      default: take();
    }
  }
}

Tensor Arguments::tensor() { return Tensor(to<AtenTensorHandle>(take())); }

Tensor Arguments::optional_tensor() {
  const auto handle = to<std::optional<AtenTensorHandle>>(take());
  if (!handle) return Tensor();
  Tensor tensor(*handle);
  bool defined = false;
  check(aoti_torch_is_defined(tensor.get(), &defined));
  return defined ? std::move(tensor) : Tensor();
}

Ints Arguments::ints() { return read_list<int64_t>(take()); }

bool Arguments::optional_ints(Ints* out) {
  const auto list = to<std::optional<StableListHandle>>(take());
  if (!list) return false;
  *out = read_list<int64_t>(torch::stable::detail::from(*list));
  return true;
}

Ints Arguments::list_of_booleans() { return read_list<bool>(take()); }
int64_t Arguments::integer() { return to<int64_t>(take()); }

bool Arguments::optional_integer(int64_t* out) {
  const auto value = to<std::optional<int64_t>>(take());
  if (value) *out = *value;
  return value.has_value();
}

bool Arguments::boolean() { return to<bool>(take()); }

StableIValue result_or_undefined(Tensor tensor) {
  if (tensor) return result(std::move(tensor));
  AtenTensorHandle undefined;
  check(aoti_torch_new_uninitialized_tensor(&undefined));
  return result(Tensor(undefined));
}

StableIValue lend(const Tensor& tensor) {
  AtenTensorHandle handle;
  check(aoti_torch_new_tensor_handle(tensor.get(), &handle));
  return torch::stable::detail::from(handle);
}

StableIValue lend_optional(const Tensor& tensor) {
  if (!tensor) return torch::stable::detail::from(std::nullopt);
  AtenTensorHandle handle;
  check(aoti_torch_new_tensor_handle(tensor.get(), &handle));
  return torch::stable::detail::from(std::optional<AtenTensorHandle>(handle));
}

StableIValue result(const std::string& text) {
  StringHandle handle;
  check(torch_new_string_handle(text.data(), text.size(), &handle));
  return torch::stable::detail::from(handle);
}

std::string Arguments::string() {
  const auto handle = to<StringHandle>(take());
  size_t length = 0;
  const char* text = nullptr;
  AOTITorchError code = torch_string_length(handle, &length);
  if (!code) code = torch_string_c_str(handle, &text);
  std::string out = code ? std::string() : std::string(text, length);
  torch_delete_string(handle);
  check(code);
  return out;
}

bool dtype_of(int32_t torch_dtype, DType* out) {
  if (torch_dtype == dtypes.f32) *out = DType::kFloat32;
  else if (torch_dtype == dtypes.f64) *out = DType::kFloat64;
  else if (torch_dtype == dtypes.bf16) *out = DType::kBFloat16;
  else if (torch_dtype == dtypes.f16) *out = DType::kFloat16;
  else return false;
  return true;
}

int32_t torch_dtype_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return dtypes.f32;
    case DType::kFloat64: return dtypes.f64;
    case DType::kBFloat16: return dtypes.bf16;
    case DType::kFloat16: return dtypes.f16;
    case DType::kUInt8: return aoti_torch_dtype_uint8();
    case DType::kInt8: return aoti_torch_dtype_int8();
  }
  return dtypes.f32;
}

}  // namespace fastconv::binding
