// Large pages under buffers that are read whole at every call: their addresses then take fewer entries of the TLB.
#pragma once

#include <cstddef>

namespace fastconv {

/// Asks the system to back [data, data + bytes), not yet written, by large pages where it fills them. A wish: where the
/// system has none, or its memory is in pieces, nothing changes.
void wish_for_large_pages(void* data, size_t bytes);

}  // namespace fastconv
