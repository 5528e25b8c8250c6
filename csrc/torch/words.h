// Words of the ops' string arguments.
#pragma once

#include <stdexcept>
#include <string>

#include "core/types.h"

namespace fastconv::binding {

/// The value that `name` stands for. Throws with the names there are.
template <class Enum>
Enum named(const char* argument, const std::string& name) {
  Enum value;
  if (value_named(name, &value)) return value;
  std::string all;
  for (const char* known : Names<Enum>::kAll) all += (all.empty() ? "" : ", ") + std::string(known);
  throw std::runtime_error("fastconv: " + std::string(argument) + "='" + name + "' is not one of " + all);
}

}  // namespace fastconv::binding
