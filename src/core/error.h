#pragma once
// The two kinds of error: what the user can mend, and what only we can.

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace snug {

/// Something the user can mend. The text says what is wrong, where (file, line, key, tensor) and
/// what to do. Ends a command with exit status 1.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What was asked for needs more memory than there is. Exit status 3.
class DoesNotFit : public UserError {
 public:
  using UserError::UserError;
};

/// A broken promise inside snug. Carries the condition and its place; exit status 2.
class InternalError : public std::logic_error {
 public:
  InternalError(const std::string& what, std::source_location where);
};

/// Throws UserError with a formatted text.
template <class... Args>
[[noreturn]] void user_error(fmt::format_string<Args...> format, Args&&... args) {
  throw UserError(fmt::format(format, std::forward<Args>(args)...));
}

/// A format string that remembers where it was written.
template <class... Args>
struct LocatedFormat {
  template <class Text>
  consteval LocatedFormat(  // NOLINT(google-explicit-constructor): stands in for a literal
      const Text& text, std::source_location location = std::source_location::current())
      : format(text), where(location) {}
  fmt::format_string<Args...> format;
  std::source_location where;
};

/// Throws InternalError with a formatted text and the caller's place.
template <class... Args>
[[noreturn]] void internal_error(LocatedFormat<std::type_identity_t<Args>...> format,
                                 Args&&... args) {
  throw InternalError(fmt::format(format.format, std::forward<Args>(args)...), format.where);
}

/// A part of a message that `make` gives as text, called only when the message is formatted.
template <class Make>
struct Late {
  Make make;
};

/// Throws InternalError unless `condition` holds. The text says which promise was broken.
template <class... Args>
void check(bool condition, LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  if (!condition) {
    throw InternalError(fmt::format(format.format, std::forward<Args>(args)...), format.where);
  }
}

}  // namespace snug

template <class Make>
struct fmt::formatter<snug::Late<Make>> : fmt::formatter<std::string_view> {
  auto format(const snug::Late<Make>& late, format_context& context) const {
    const std::string text(late.make());
    return fmt::formatter<std::string_view>::format(text, context);
  }
};
