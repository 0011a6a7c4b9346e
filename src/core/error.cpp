#include "core/error.h"

namespace snug {

InternalError::InternalError(const std::string& what, std::source_location where)
    : std::logic_error(fmt::format("internal error: {} ({}:{}). Please report this.", what,
                                   where.file_name(), where.line())) {}

}  // namespace snug
