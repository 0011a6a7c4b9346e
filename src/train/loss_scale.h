#pragma once
// fp16's dynamic loss scale.

#include <cstdint>
#include <string>

namespace snug {

/// torch.amp.GradScaler's rule and constants: starts at 65536, doubles after 2000 updates in a row
/// that did not overflow, halves at one that did (that update is skipped).
class LossScale {
 public:
  double scale() const { return scale_; }
  std::int64_t skipped() const { return skipped_; }

  /// After a step whose gradients were finite, or not. UserError when the scale falls below 1: no
  /// scale can help then.
  void update(bool finite);

  /// scaler.json; `growth_tracker` is torch's name for the updates since the last change.
  std::string to_json() const;
  /// UserError naming `where` for what is no state of a scale.
  static LossScale from_json(const std::string& text, const std::string& where);

 private:
  double scale_ = 65536;
  std::int64_t growth_tracker_ = 0;
  std::int64_t skipped_ = 0;
};

}  // namespace snug
