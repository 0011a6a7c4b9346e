#include "cli/plan_request.h"

#include "backend/backend.h"
#include "data/batches.h"

namespace snug {

PlannedRun plan_request(const Settings& settings) {
  PlannedRun run;
  run.model = open_model(settings.model);
  const Target target = make_target(settings.device);
  run.kernels = make_backend(target);
  RecipeRequest& request = run.request;
  request.config = run.model.config;
  request.settings = settings;
  adopt_quantization(request.settings, run.model);
  request.target = target;
  if (settings.data.train_files.empty()) {
    request.lengths = {token_rules(settings, run.model.config).max_length};
    request.evaluate = true;
  } else {
    const DataSource data = open_data(settings, run.model);
    request.lengths = choose_buckets(data.train, settings.data.bucket_count);
    request.evaluate = data.eval.size() > 0;
  }
  request.rope_positions = request.lengths.back();
  const ProcessMemory memory = process_memory(settings.device, target);
  request.budget_bytes = memory.budget;
  request.outside_bytes = memory.outside;
  return run;
}

}  // namespace snug
