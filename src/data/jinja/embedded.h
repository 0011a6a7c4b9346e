#pragma once
// Files of this folder that are part of the program.

#include <span>
#include <string_view>

namespace snug {

/// worker.py, for `python3 -I -c`.
std::string_view jinja_worker_script();

struct NamedTemplate {
  std::string_view name;
  std::string_view text;
};

/// templates/NAME.jinja.
std::span<const NamedTemplate> named_templates();

}  // namespace snug
