#pragma once
// Everything that is wrong with something, so that it can be said in one go.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace snug {

class ErrorList {
 public:
  /// Runs `work`; a UserError of it becomes an entry. Whether it came to its end.
  template <class Work>
  bool attempt(Work&& work) {
    try {
      work();
      return true;
    } catch (const UserError& error) {
      add(error.what());
      return false;
    }
  }
  /// An entry; the same text twice is one.
  void add(std::string text) {
    if (std::find(texts_.begin(), texts_.end(), text) == texts_.end()) {
      texts_.push_back(std::move(text));
    }
  }
  bool empty() const { return texts_.empty(); }
  /// UserError with every entry, one below the other; nothing when there is none.
  void raise() const {
    if (!texts_.empty()) throw UserError(fmt::format("{}", fmt::join(texts_, "\n")));
  }

 private:
  std::vector<std::string> texts_;
};

}  // namespace snug
