#include "core/text.h"

#include <cctype>

namespace fastconv::text {
namespace {

constexpr size_t kMostDigits = 9;

[[noreturn]] void refuse_part(const std::string& part) {
  throw std::invalid_argument("cannot read problem part '" + part + "'");
}

}  // namespace

Numbers next_numbers(const std::string& part, size_t* at) {
  size_t i = *at;
  Numbers numbers = {};
  while (i < part.size() && std::isalpha(static_cast<unsigned char>(part[i]))) numbers.key += part[i++];
  if (numbers.key.empty()) refuse_part(part);
  for (bool more = true; more;) {
    const bool negative = i < part.size() && part[i] == '-';
    if (negative) ++i;
    const size_t start = i;
    int64_t value = 0;
    while (i < part.size() && std::isdigit(static_cast<unsigned char>(part[i]))) {
      if (i - start >= kMostDigits) throw std::invalid_argument("number too long in problem part '" + part + "'");
      value = value * 10 + (part[i++] - '0');
    }
    if (i == start || numbers.count == 3) refuse_part(part);
    numbers.values[numbers.count++] = negative ? -value : value;
    more = i < part.size() && part[i] == 'x';
    if (more) ++i;
  }
  *at = i;
  return numbers;
}

void refuse_key(const std::string& key, const std::string& text) {
  throw std::invalid_argument("unknown key '" + key + "' in problem '" + text + "'");
}

void refuse_second(const std::string& name, const std::string& text) {
  throw std::invalid_argument("'" + name + "' says again in problem '" + text + "' what was said");
}

void refuse_value(const char* key, int64_t value, const std::string& text, int64_t least) {
  throw std::invalid_argument(std::string(key) + " is " + std::to_string(value) + " in problem '" + text +
                              "'; it must be at least " + std::to_string(least));
}

}  // namespace fastconv::text
