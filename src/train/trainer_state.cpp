#include "train/trainer_state.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>
#include <system_error>

#include "core/error.h"
#include "core/json.h"
#include "io/file.h"

namespace snug {

using Json = nlohmann::json;

namespace {

[[noreturn]] void fail(const std::filesystem::path& path, int error) {
  user_error("{}: cannot be written: {}.", path.string(), std::generic_category().message(error));
}

}  // namespace

void TrainerState::log(Json row) {
  row["epoch"] = epoch;
  row["step"] = global_step;
  history_.push_back(std::move(row));
}

std::string TrainerState::to_json() const {
  const Json control = {{"args",
                         {{"should_epoch_stop", false},
                          {"should_evaluate", false},
                          {"should_log", false},
                          {"should_save", true},
                          {"should_training_stop", global_step >= max_steps}}},
                        {"attributes", Json::object()}};
  const Json state = {{"best_global_step", nullptr},
                      {"best_metric", nullptr},
                      {"best_model_checkpoint", nullptr},
                      {"epoch", epoch},
                      {"eval_steps", eval_steps},
                      {"global_step", global_step},
                      {"is_hyper_param_search", false},
                      {"is_local_process_zero", true},
                      {"is_world_process_zero", true},
                      {"log_history", history_},
                      {"logging_steps", logging_steps},
                      {"max_steps", max_steps},
                      {"num_input_tokens_seen", num_input_tokens_seen},
                      {"num_train_epochs", num_train_epochs},
                      {"save_steps", save_steps},
                      {"stateful_callbacks", {{"TrainerControl", control}}},
                      {"total_flos", total_flos},
                      {"train_batch_size", train_batch_size},
                      {"trial_name", nullptr},
                      {"trial_params", nullptr}};
  return state.dump(2) + "\n";
}

TrainerState TrainerState::from_json(const std::string& text, const std::string& where) {
  const Json json = parse_json(text, where);
  TrainerState state;
  try {
    state.global_step = json.at("global_step").get<std::int64_t>();
    state.max_steps = json.at("max_steps").get<std::int64_t>();
    state.num_train_epochs = json.at("num_train_epochs").get<double>();
    state.epoch = json.at("epoch").get<double>();
    state.num_input_tokens_seen = json.at("num_input_tokens_seen").get<std::int64_t>();
    state.train_batch_size = json.at("train_batch_size").get<std::int64_t>();
    state.total_flos = json.at("total_flos").get<double>();
    state.history_ = json.at("log_history");
  } catch (const Json::exception& error) {
    user_error("{}: {}. Resume from another checkpoint.", where, error.what());
  }
  if (!state.history_.is_array() || state.global_step < 0 || state.train_batch_size < 1) {
    user_error(
        "{}: log_history, global_step or train_batch_size is damaged. Resume from another "
        "checkpoint.",
        where);
  }
  return state;
}

MetricsFile::MetricsFile(const std::filesystem::path& path, std::int64_t last_step) : path_(path) {
  std::string kept;
  bool whole = true;
  if (std::filesystem::exists(path)) {
    const std::string text = read_text(path);
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      const Json row = Json::parse(line, nullptr, false);
      const bool good = row.is_object() && row.contains("step") && row["step"].is_number_integer();
      if (good && row["step"].get<std::int64_t>() <= last_step) kept += line + "\n";
    }
    whole = kept == text;
  }
  if (!whole) replace_text(path, kept);
  handle_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (handle_ < 0) fail(path, errno);
}

MetricsFile::~MetricsFile() { ::close(handle_); }

bool MetricsFile::write(const nlohmann::ordered_json& row) {
  constexpr std::size_t kMostWaiting = 1 << 20;
  waiting_ += row.dump() + "\n";
  while (!waiting_.empty()) {
    const ssize_t written = ::write(handle_, waiting_.data(), waiting_.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno != ENOSPC && errno != EDQUOT && errno != EFBIG) fail(path_, errno);
    if (written < 0) break;
    waiting_.erase(0, static_cast<std::size_t>(written));
  }
  while (waiting_.size() > kMostWaiting) {
    // The first line may have begun in the file, so its end stays.
    const std::size_t first = waiting_.find('\n') + 1;
    waiting_.erase(first, waiting_.find('\n', first) + 1 - first);
  }
  return waiting_.empty();
}

}  // namespace snug
