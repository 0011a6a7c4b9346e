#pragma once
// Where the Hugging Face cache of this user lies.

#include <filesystem>
#include <string>

namespace snug {

/// The hub's cache as huggingface_hub finds it (its constants.py): HF_HUB_CACHE, else
/// HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else
/// ~/.cache/huggingface/hub. `~`, `~USER`, `$NAME` and `${NAME}` in them are expanded; a variable
/// that is set but empty counts.
std::filesystem::path hub_cache();

/// `~` and `~USER` at the path's begin, as Python's os.path.expanduser; unknown users stay.
std::string expand_user(const std::string& path);

/// `$NAME` and `${NAME}` anywhere, as Python's os.path.expandvars; unset variables stay.
std::string expand_variables(const std::string& path);

}  // namespace snug
