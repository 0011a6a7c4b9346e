#pragma once
// A helper process that renders templates, and how it is talked to.

#include <sys/types.h>

#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace snug {

/// One `python3 -I` with worker.py. Ends with this object, and with this process.
class WorkerProcess {
 public:
  /// Starts `python` and hands over the setup (worker.py's first frame). Throws WorkerFailure where
  /// it cannot be started, has no jinja2 or refuses a template.
  WorkerProcess(const std::string& python, std::string_view setup);
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  struct Answer {
    int status = 0;  ///< worker.py's: 0 done, 1 refused, 2 a template does not compile
    std::string payload;
  };
  /// Sends a frame and waits for its answer. Throws WorkerFailure when the process ends or takes
  /// longer than 20 seconds; it is then over.
  Answer ask(std::string_view frame);

 private:
  void send(std::string_view bytes);
  std::string receive(std::size_t count);
  void stop();

  pid_t process_ = -1;
  int socket_ = -1;
  double deadline_ = 0;
};

/// Why a helper is of no use.
struct WorkerFailure : std::exception {
  enum class Kind { interpreter, template_text, ended, too_slow };
  WorkerFailure(Kind what_kind, std::string why) : kind(what_kind), reason(std::move(why)) {}
  const char* what() const noexcept override { return reason.c_str(); }
  Kind kind;
  std::string reason;
};

}  // namespace snug
