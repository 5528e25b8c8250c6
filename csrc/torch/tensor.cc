#include "torch/tensor.h"

#include <dlfcn.h>

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
  return out;
}

}  // namespace

void check(AOTITorchError code) {
  if (code) throw std::runtime_error(last_error());
}

Tensor empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype, const Device& device) {
  static const int32_t cpu = aoti_torch_device_type_cpu(), cuda = aoti_torch_device_type_cuda();
  AtenTensorHandle handle;
  check(aoti_torch_empty_strided(dim, sizes, strides, dtype, device.cuda ? cuda : cpu, device.index, &handle));
  return Tensor(handle);
}

Tensor clone(const Tensor& tensor) {
  AtenTensorHandle handle;
  check(aoti_torch_clone(tensor.get(), &handle));
  return Tensor(handle);
}

Tensor contiguous(const Tensor& tensor, bool channels_last) {
  const int32_t format = !channels_last      ? aoti_torch_memory_format_contiguous_format()
                         : tensor.dim() == 5 ? aoti_torch_memory_format_channels_last_3d()
                                             : aoti_torch_memory_format_channels_last();
  AtenTensorHandle input;
  check(aoti_torch_new_tensor_handle(tensor.get(), &input));
  StableIValue stack[2] = {torch::stable::detail::from(input), torch::stable::detail::from(format)};
  check(torch_call_dispatcher("aten::contiguous", "", stack, TORCH_ABI_VERSION));
  return Tensor(to<AtenTensorHandle>(stack[0]));
}

Tensor Arguments::tensor() { return Tensor(to<AtenTensorHandle>(*next_++)); }

Tensor Arguments::optional_tensor() {
  const auto handle = to<std::optional<AtenTensorHandle>>(*next_++);
  if (!handle) return Tensor();
  Tensor tensor(*handle);
  bool defined = false;
  check(aoti_torch_is_defined(tensor.get(), &defined));
  return defined ? std::move(tensor) : Tensor();
}

Ints Arguments::ints() { return read_list<int64_t>(*next_++); }

bool Arguments::optional_ints(Ints* out) {
  const auto list = to<std::optional<StableListHandle>>(*next_++);
  if (!list) return false;
  *out = read_list<int64_t>(torch::stable::detail::from(*list));
  return true;
}

Ints Arguments::list_of_booleans() { return read_list<bool>(*next_++); }
int64_t Arguments::integer() { return to<int64_t>(*next_++); }
bool Arguments::boolean() { return to<bool>(*next_++); }

StableIValue result_or_undefined(Tensor tensor) {
  if (tensor) return result(std::move(tensor));
  AtenTensorHandle undefined;
  check(aoti_torch_new_uninitialized_tensor(&undefined));
  return result(Tensor(undefined));
}

StableIValue result(const std::string& text) {
  StringHandle handle;
  check(torch_new_string_handle(text.data(), text.size(), &handle));
  return torch::stable::detail::from(handle);
}

std::string Arguments::string() {
  const auto handle = to<StringHandle>(*next_++);
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
  }
  return dtypes.f32;
}

}  // namespace fastconv::binding
