// What happens when the op library is loaded: torch's thread pool for the kernels, and nothing else yet.

#include "torch/run.h"

namespace fastconv::binding {
namespace {

const bool loaded = [] {
  use_torch_threads();
  return true;
}();

}  // namespace
}  // namespace fastconv::binding
