// The text form of problems, by one table of fields a family: writes, reads and checks a record.
//
// A problem is parts between underscores, `n2_c64_h56w56_k64_r3s3_st1_pd1`, then words such as `bf16` or `nhwc`. A part
// holds one or several fields, each a key and a number (`h56w56`), or one step of all three axes (`st2x1`). The fields
// of the depth axis appear where it carries something; outputs where the formula does not give them.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/types.h"

namespace fastconv {

template <class P>
struct TextField {
  const char* key;
  int64_t P::* at;
  int64_t least;  // INT64_MIN for any
  bool depth = false, output = false, ends_part = true;
  bool optional = false;  // written where it is not 0
};

/// A step of the window: its values on the three axes, and what the depth axis has where the text has none.
template <class P>
struct TextStep {
  const char* key;
  int64_t P::*d, P::*h, P::*w;
  int64_t rest, least;
  bool optional = false;  // written where an axis is not at rest
};

/// A word: `is` says whether a problem has it; where `hidden`, it is read but not written.
template <class P>
struct TextWord {
  const char* text;
  void (*set)(P&);
  bool (*is)(const P&);
  bool hidden = false;
};

template <class P, DType kDType>
constexpr TextWord<P> dtype_word(bool hidden = false) {
  return {name_of(kDType), [](P& p) { p.dtype = kDType; }, [](const P& p) { return p.dtype == kDType; }, hidden};
}
template <class P, Layout kX, Layout kY>
constexpr TextWord<P> layout_word(const char* text, bool hidden = false) {
  return {text, [](P& p) { p.x_layout = kX, p.y_layout = kY; },
          [](const P& p) { return p.x_layout == kX && p.y_layout == kY; }, hidden};
}
/// The words of dtype and layouts: float32, and channels last on both sides, go without saying.
template <class P>
inline constexpr TextWord<P> kDTypeAndLayouts[] = {
    dtype_word<P, DType::kFloat32>(true),
    dtype_word<P, DType::kFloat64>(),
    dtype_word<P, DType::kBFloat16>(),
    dtype_word<P, DType::kFloat16>(),
    dtype_word<P, DType::kUInt8>(),
    dtype_word<P, DType::kInt8>(),
    layout_word<P, Layout::kNhwc, Layout::kNhwc>("nhwc", true),
    layout_word<P, Layout::kNchw, Layout::kNchw>("nchw"),
    layout_word<P, Layout::kNchw, Layout::kNhwc>("nchw2nhwc"),
    layout_word<P, Layout::kNhwc, Layout::kNchw>("nhwc2nchw"),
};

/// Order of the text: `before`, steps, the family's words, `after`, dtype and layouts.
template <class P>
struct TextForm {
  std::span<const TextField<P>> before;
  std::span<const TextStep<P>> steps;
  std::span<const TextField<P>> after;
  std::span<const TextWord<P>> words;
  bool (*has_depth)(const P&);
  /// The same problem with the outputs that the formula gives.
  P (*with_outputs)(P);
  /// Throws std::invalid_argument for what the fields' bounds do not say; may be null.
  void (*check)(const P&, const std::string& text) = nullptr;
  bool integers = false;  // whether elements may be whole numbers
};

namespace text {

/// A key and its numbers, cut off the front of `part` from `*at` on. Throws where there is none.
struct Numbers {
  std::string key;
  int64_t values[3];
  int count;
};
Numbers next_numbers(const std::string& part, size_t* at);

[[noreturn]] void refuse_key(const std::string& key, const std::string& text);
[[noreturn]] void refuse_second(const std::string& name, const std::string& text);
[[noreturn]] void refuse_value(const char* key, int64_t value, const std::string& text, int64_t least);

}  // namespace text

template <class P>
std::string encode_by(const TextForm<P>& form, const P& p) {
  const bool depth = form.has_depth(p), given = form.with_outputs(p) != p;
  std::string text;
  bool begins = true;
  const auto write = [&](std::span<const TextField<P>> fields) {
    for (const TextField<P>& field : fields) {
      if ((!field.depth || depth) && (!field.output || given) && (!field.optional || p.*field.at)) {
        if (begins && !text.empty()) text += '_';
        text += field.key + std::to_string(p.*field.at);
        begins = false;
      }
      if (field.ends_part) begins = true;
    }
  };
  write(form.before);
  for (const TextStep<P>& step : form.steps) {
    const int64_t d = p.*step.d, h = p.*step.h, w = p.*step.w;
    if (step.optional && d == step.rest && h == step.rest && w == step.rest) continue;
    const bool three = depth && !(d == h && h == w);
    text += std::string("_") + step.key + (three ? std::to_string(d) + "x" : "") + std::to_string(h);
    if (three || h != w) text += "x" + std::to_string(w);
  }
  const auto write_words = [&](std::span<const TextWord<P>> words) {
    for (const TextWord<P>& word : words)
      if (!word.hidden && word.is(p)) text += std::string("_") + word.text;
  };
  write_words(form.words);
  write(form.after);
  write_words(kDTypeAndLayouts<P>);
  return text;
}

/// Throws std::invalid_argument naming the part that could not be read, or the value that cannot be.
template <class P>
P decode_by(const TextForm<P>& form, const std::string& text) {
  P p;
  bool outputs = false, depth = false;
  std::vector<std::string> seen;  // keys and words
  const auto only_once = [&](const std::string& name) {
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) text::refuse_second(name, text);
    seen.push_back(name);
  };
  const auto set_field = [&](const text::Numbers& n) {
    for (const auto& fields : {form.before, form.after})
      for (const TextField<P>& field : fields)
        if (n.key == field.key && n.count == 1) {
          p.*field.at = n.values[0];
          outputs |= field.output, depth |= field.depth && !field.output;
          return true;
        }
    return false;
  };
  const auto set_step = [&](const text::Numbers& n) {
    for (const TextStep<P>& step : form.steps)
      if (n.key == step.key) {
        p.*step.w = n.values[n.count - 1];
        p.*step.h = n.values[n.count >= 2 ? n.count - 2 : 0];
        p.*step.d = n.count == 3 || depth ? n.values[0] : step.rest;
        return true;
      }
    return false;
  };
  const std::span<const TextWord<P>> all_words[] = {form.words, kDTypeAndLayouts<P>};
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('_', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    bool is_word = false;
    for (const auto& words : all_words)
      for (const TextWord<P>& word : words)
        if (part == word.text) only_once(part), word.set(p), is_word = true;
    size_t at = 0;
    while (!is_word && (at < part.size() || at == 0)) {
      const text::Numbers numbers = text::next_numbers(part, &at);
      only_once(numbers.key);
      if (!set_field(numbers) && !set_step(numbers)) text::refuse_key(numbers.key, text);
    }
  }
  // A word that no longer holds was followed by another for the same fields.
  for (const auto& words : all_words)
    for (const TextWord<P>& word : words)
      if (!word.is(p) && std::find(seen.begin(), seen.end(), word.text) != seen.end())
        text::refuse_second(word.text, text);
  for (const auto& fields : {form.before, form.after})
    for (const TextField<P>& field : fields)
      if (p.*field.at < field.least) text::refuse_value(field.key, p.*field.at, text, field.least);
  for (const TextStep<P>& step : form.steps)
    for (const int64_t value : {p.*step.d, p.*step.h, p.*step.w})
      if (value < step.least) text::refuse_value(step.key, value, text, step.least);
  if (is_integer(p.dtype) && !form.integers) text::refuse_key(name_of(p.dtype), text);
  if (form.check) form.check(p, text);
  return outputs ? p : form.with_outputs(p);
}

}  // namespace fastconv
