#pragma once
// AMX's tile registers, for the threads that use them.

namespace snug {

/// Makes all eight tiles 16 rows of 64 bytes for the calling thread, until end_amx_tiles().
void begin_amx_tiles();
void end_amx_tiles();

}  // namespace snug
