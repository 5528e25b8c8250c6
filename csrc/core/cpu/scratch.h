// Memory for one call, kept by the thread for the next.
#pragma once

#include <cstddef>

namespace fastconv {

/// A buffer of at least `bytes`, aligned to 64, that stays valid until this thread's next `scratch` call.
///
/// A thread keeps its largest buffer up to 64 MiB, because fresh pages cost more than many a convolution; what is
/// larger is given back by `release_large_scratch`. Null when the system has no memory.
void* scratch(size_t bytes);
void release_large_scratch();

}  // namespace fastconv
