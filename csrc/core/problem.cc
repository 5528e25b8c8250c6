#include "core/problem.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

namespace fastconv {

int64_t element_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return 4;
    case DType::kFloat64: return 8;
    case DType::kBFloat16: return 2;
    case DType::kFloat16: return 2;
  }
  return 0;
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "f32";
    case DType::kFloat64: return "f64";
    case DType::kBFloat16: return "bf16";
    case DType::kFloat16: return "f16";
  }
  return "?";
}

const char* name_of(Layout layout) { return layout == Layout::kNchw ? "nchw" : "nhwc"; }

const char* name_of(Direction direction) {
  switch (direction) {
    case Direction::kFprop: return "fprop";
    case Direction::kDgrad: return "dgrad";
    case Direction::kWgrad: return "wgrad";
  }
  return "?";
}

const char* name_of(Numerics numerics) {
  switch (numerics) {
    case Numerics::kExact: return "exact";
    case Numerics::kWinogradF2: return "winograd_f2";
    case Numerics::kWinogradF4: return "winograd_f4";
    case Numerics::kTF32: return "tf32";
  }
  return "?";
}

int64_t reach(const ConvProblem& p) {
  constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();
  const auto plus = [](int64_t a, int64_t b) { return a > kEnd - b ? kEnd : a + b; };
  const auto times = [](int64_t a, int64_t b) { return b != 0 && a > kEnd / b ? kEnd : a * b; };
  const auto along = [&](int64_t in, int64_t taps, int64_t out, int64_t stride, int64_t pad, int64_t dilation) {
    const int64_t padding = pad < -kEnd ? kEnd : pad < 0 ? -pad : pad;
    return plus(plus(in, padding), plus(times(out, stride), times(taps, dilation)));
  };
  return std::max({along(p.D, p.T, p.Z, p.stride_d, p.pad_d, p.dilation_d),
                   along(p.H, p.R, p.P, p.stride_h, p.pad_h, p.dilation_h),
                   along(p.W, p.S, p.Q, p.stride_w, p.pad_w, p.dilation_w)});
}

ConvProblem adjoint(const ConvProblem& p) {
  ConvProblem a = p;
  a.C = p.K, a.K = p.C;
  a.D = p.Z, a.H = p.P, a.W = p.Q;
  a.Z = p.D, a.P = p.H, a.Q = p.W;
  a.pad_d = p.dilation_d * (p.T - 1) - p.pad_d;
  a.pad_h = p.dilation_h * (p.R - 1) - p.pad_h;
  a.pad_w = p.dilation_w * (p.S - 1) - p.pad_w;
  a.x_layout = p.y_layout, a.y_layout = p.x_layout;
  return a;
}

namespace {

std::string triple(const char* key, int64_t d, int64_t h, int64_t w, bool with_depth) {
  std::string text = std::string("_") + key;
  if (with_depth && !(d == h && h == w)) text += std::to_string(d) + "x";
  text += std::to_string(h);
  if (h != w || (with_depth && d != h)) text += "x" + std::to_string(w);
  return text;
}

/// Splits "st2x1" into its key and its numbers.
struct Field {
  std::string key;
  std::vector<int64_t> values;
};

/// A part such as "h56w56" holds several fields; "st2x1" holds one with two values.
std::vector<Field> fields_of(const std::string& part) {
  std::vector<Field> fields;
  if (part.empty()) throw std::invalid_argument("cannot read problem part ''");
  size_t i = 0;
  while (i < part.size()) {
    Field field;
    while (i < part.size() && std::isalpha(static_cast<unsigned char>(part[i]))) field.key += part[i++];
    bool more = true;
    while (more) {
      const bool negative = i < part.size() && part[i] == '-';
      if (negative) ++i;
      const size_t start = i;
      int64_t value = 0;
      while (i < part.size() && std::isdigit(static_cast<unsigned char>(part[i]))) {
        if (i - start > 8) throw std::invalid_argument("number too long in problem part '" + part + "'");
        value = value * 10 + (part[i++] - '0');
      }
      if (i == start) throw std::invalid_argument("cannot read problem part '" + part + "'");
      field.values.push_back(negative ? -value : value);
      more = i < part.size() && part[i] == 'x';
      if (more) ++i;
    }
    if (field.key.empty()) throw std::invalid_argument("cannot read problem part '" + part + "'");
    fields.push_back(field);
  }
  return fields;
}

void check(const ConvProblem& p, const std::string& text) {
  const struct {
    const char* name;
    int64_t value, least;
  } fields[] = {
      {"n", p.N, 0},           {"c", p.C, 0},           {"d", p.D, 0},         {"h", p.H, 0},
      {"w", p.W, 0},           {"k", p.K, 0},           {"t", p.T, 0},         {"r", p.R, 0},
      {"s", p.S, 0},           {"z", p.Z, 0},           {"p", p.P, 0},         {"q", p.Q, 0},
      {"st", p.stride_d, 1},   {"st", p.stride_h, 1},   {"st", p.stride_w, 1}, {"dl", p.dilation_d, 1},
      {"dl", p.dilation_h, 1}, {"dl", p.dilation_w, 1}, {"g", p.groups, 1},
  };
  for (const auto& field : fields)
    if (field.value < field.least)
      throw std::invalid_argument(std::string(field.name) + " is " + std::to_string(field.value) + " in problem '" +
                                  text + "'; it must be at least " + std::to_string(field.least));
  for (const auto& [name, channels] : {std::pair{"c", p.C}, {"k", p.K}})
    if (channels % p.groups)
      throw std::invalid_argument(std::string(name) + " is " + std::to_string(channels) + " in problem '" + text +
                                  "'; it must be divisible by g = " + std::to_string(p.groups));
}

}  // namespace

std::string encode(const ConvProblem& p) {
  const bool depth = !p.is_2d() || p.stride_d != 1 || p.dilation_d != 1;
  std::string text = "n" + std::to_string(p.N) + "_c" + std::to_string(p.C) + "_";
  if (depth) text += "d" + std::to_string(p.D);
  text += "h" + std::to_string(p.H) + "w" + std::to_string(p.W) + "_k" + std::to_string(p.K) + "_";
  if (depth) text += "t" + std::to_string(p.T);
  text += "r" + std::to_string(p.R) + "s" + std::to_string(p.S);
  text += triple("st", p.stride_d, p.stride_h, p.stride_w, depth);
  text += triple("pd", p.pad_d, p.pad_h, p.pad_w, depth);
  text += triple("dl", p.dilation_d, p.dilation_h, p.dilation_w, depth);
  text += "_g" + std::to_string(p.groups);
  const bool regular = p.Z == output_extent(p.D, p.T, p.stride_d, p.pad_d, p.dilation_d) &&
                       p.P == output_extent(p.H, p.R, p.stride_h, p.pad_h, p.dilation_h) &&
                       p.Q == output_extent(p.W, p.S, p.stride_w, p.pad_w, p.dilation_w);
  if (!regular) {
    text += "_";
    if (depth) text += "z" + std::to_string(p.Z);
    text += "p" + std::to_string(p.P) + "q" + std::to_string(p.Q);
  }
  if (p.dtype != DType::kFloat32) text += std::string("_") + name_of(p.dtype);
  if (p.x_layout == p.y_layout) {
    if (p.x_layout == Layout::kNchw) text += "_nchw";
  } else {
    text += p.x_layout == Layout::kNchw ? "_nchw2nhwc" : "_nhwc2nchw";
  }
  return text;
}

ConvProblem decode(const std::string& text) {
  ConvProblem p;
  bool outputs_given = false;
  bool has_depth = false;
  size_t begin = 0;
  std::map<std::string, int64_t*> scalars = {
      {"n", &p.N}, {"c", &p.C}, {"d", &p.D}, {"h", &p.H}, {"w", &p.W}, {"k", &p.K},      {"t", &p.T},
      {"r", &p.R}, {"s", &p.S}, {"z", &p.Z}, {"p", &p.P}, {"q", &p.Q}, {"g", &p.groups},
  };
  struct Triple {
    int64_t *d, *h, *w;
    int64_t rest;  // the value of the depth axis where the text has none
  };
  std::map<std::string, Triple> triples = {
      {"st", {&p.stride_d, &p.stride_h, &p.stride_w, 1}},
      {"pd", {&p.pad_d, &p.pad_h, &p.pad_w, 0}},
      {"dl", {&p.dilation_d, &p.dilation_h, &p.dilation_w, 1}},
  };
  while (begin <= text.size()) {
    size_t end = text.find('_', begin);
    if (end == std::string::npos) end = text.size();
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    bool known = true;
    if (part == "f32") p.dtype = DType::kFloat32;
    else if (part == "f64") p.dtype = DType::kFloat64;
    else if (part == "bf16") p.dtype = DType::kBFloat16;
    else if (part == "f16") p.dtype = DType::kFloat16;
    else if (part == "nhwc") p.x_layout = p.y_layout = Layout::kNhwc;
    else if (part == "nchw") p.x_layout = p.y_layout = Layout::kNchw;
    else if (part == "nchw2nhwc") p.x_layout = Layout::kNchw, p.y_layout = Layout::kNhwc;
    else if (part == "nhwc2nchw") p.x_layout = Layout::kNhwc, p.y_layout = Layout::kNchw;
    else known = false;
    if (known) continue;
    for (const Field& field : fields_of(part)) {
      if (const auto it = scalars.find(field.key); it != scalars.end() && field.values.size() == 1) {
        *it->second = field.values[0];
        outputs_given |= field.key == "p" || field.key == "q" || field.key == "z";
        has_depth |= field.key == "d" || field.key == "t";
      } else if (const auto triple = triples.find(field.key); triple != triples.end() && field.values.size() <= 3) {
        const auto& v = field.values;
        *triple->second.w = v.back();
        *triple->second.h = v.size() >= 2 ? v[v.size() - 2] : v[0];
        *triple->second.d = v.size() == 3 ? v[0] : has_depth ? v[0] : triple->second.rest;
      } else {
        throw std::invalid_argument("unknown key '" + field.key + "' in problem '" + text + "'");
      }
    }
  }
  check(p, text);  // before the division by strides
  if (!outputs_given) {
    p.Z = output_extent(p.D, p.T, p.stride_d, p.pad_d, p.dilation_d);
    p.P = output_extent(p.H, p.R, p.stride_h, p.pad_h, p.dilation_h);
    p.Q = output_extent(p.W, p.S, p.stride_w, p.pad_w, p.dilation_w);
  }
  return p;
}

}  // namespace fastconv
