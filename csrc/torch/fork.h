// Locks that a fork in another thread does not leave closed to the child.
#pragma once

#include <mutex>

namespace fastconv::binding {

/// A new mutex that is free in every child of a fork. It lives as long as the process.
std::mutex& fork_safe_mutex();

}  // namespace fastconv::binding
