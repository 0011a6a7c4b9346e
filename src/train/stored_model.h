#pragma once
// What a folder's files say of the model beside its config.json, taken as transformers takes it.

#include <set>
#include <string>
#include <vector>

#include "io/model_files.h"
#include "model/config.h"
#include "train/run_setup.h"

namespace snug {

/// For a model whose weights are to be read: an absent dtype is that of the files; a head that
/// config.json ties to the embedding is apart where the files hold both with different values
/// (transformers: PreTrainedModel.tie_weights). What the user should know of it goes to
/// `model.notes`, as do stored tensors that the model has no place for.
void adopt_stored_weights(ModelSource& model);

/// The names that tensors of the model have in its files, those of a tied head too.
std::set<std::string, std::less<>> tensor_names(const ModelConfig& config);

/// Names of the stored tensors that the model of `config` has no place for, sorted. The parts of
/// quantised weights belong to them.
std::vector<std::string> left_over_tensors(const ModelConfig& config, const ModelWeights& weights);

}  // namespace snug
