#pragma once
// The C library's heap, where a process's bytes are counted.

#include <future>
#include <utility>

namespace snug {

/// For a whole program, before its first thread: one heap for the first thread and one for all
/// others, and large blocks in neither, which go back to the system when they are freed.
void settle_heap();

/// Whether settle_heap() was called, and no tool counts bytes of its own among the process's.
bool heap_is_settled();

/// Calls `work` on a thread whose heap is not the caller's, and returns or throws what it does.
/// When its result has been copied and destroyed, give_back_free_heap() leaves nothing of all that
/// `work` allocated: between blocks that stay it would lie scattered and keep their pages.
template <class Work>
auto in_other_heap(Work&& work) {
  return std::async(std::launch::async, std::forward<Work>(work)).get();
}

/// Gives the system back what is free, in whole pages.
void give_back_free_heap();

}  // namespace snug
