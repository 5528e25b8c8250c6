// The records of every family, for what serves them all.
#pragma once

#define FASTCONV_FAMILY_HEADERS
#include "families.inc"

namespace fastconv {

/// Calls `body(F{})` for the record F of each family.
template <class Body>
void for_each_family(Body&& body) {
#define FASTCONV_FAMILY(name, Type) body(Type{});
#include "families.inc"
#undef FASTCONV_FAMILY
}

}  // namespace fastconv
