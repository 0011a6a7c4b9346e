#include "data/jinja/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>

#include "core/error.h"
#include "data/jinja/embedded.h"

namespace snug {
namespace {

constexpr double kPatience = 20;  // seconds an answer may take
constexpr std::size_t kLargestAnswer = std::size_t{1} << 30;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string length_of(std::size_t count) {
  std::string bytes(4, '\0');
  const auto value = static_cast<std::uint32_t>(count);
  std::memcpy(bytes.data(), &value, 4);
  return bytes;
}

/// Starts the interpreter with the socket as its standard input and output; 0 or errno.
int start(const std::string& python, int socket, pid_t& process) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, socket, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, socket, STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  sigset_t usual;
  sigfillset(&usual);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  // A group of its own: a terminal's Ctrl-C is for the program that started it.
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::string script(jinja_worker_script());
  std::string name = python;
  std::array<std::string, 2> words = {"-I", "-c"};
  const std::array<char*, 5> arguments = {name.data(), words[0].data(), words[1].data(),
                                          script.data(), nullptr};
  const int status =
      posix_spawnp(&process, python.c_str(), &files, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return status;
}

}  // namespace

WorkerProcess::WorkerProcess(const std::string& python, std::string_view setup) {
  std::array<int, 2> ends{};
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0, "socketpair: {}",
        std::strerror(errno));
  socket_ = ends[0];
  const int status = start(python, ends[1], process_);
  ::close(ends[1]);
  if (status != 0) {
    process_ = -1;
    stop();
    throw WorkerFailure{WorkerFailure::Kind::interpreter, std::strerror(status)};
  }
  try {
    const Answer answer = ask(setup);
    if (answer.status == 0) return;
    const auto kind =
        answer.status == 2 ? WorkerFailure::Kind::template_text : WorkerFailure::Kind::interpreter;
    throw WorkerFailure{kind, answer.payload};
  } catch (const WorkerFailure&) {
    stop();
    throw;
  }
}

WorkerProcess::~WorkerProcess() { stop(); }

void WorkerProcess::stop() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
  if (process_ < 0) return;
  ::kill(process_, SIGKILL);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
}

WorkerProcess::Answer WorkerProcess::ask(std::string_view frame) {
  if (socket_ < 0) throw WorkerFailure{WorkerFailure::Kind::ended, "it has ended"};
  deadline_ = now() + kPatience;
  send(length_of(frame.size()));
  send(frame);
  std::uint32_t count = 0;
  std::memcpy(&count, receive(4).data(), 4);
  if (count == 0 || count > kLargestAnswer) {
    stop();
    throw WorkerFailure{WorkerFailure::Kind::ended, "it answers something else"};
  }
  std::string payload = receive(count);
  const int status = static_cast<unsigned char>(payload.front());
  payload.erase(0, 1);
  return {status, std::move(payload)};
}

void WorkerProcess::send(std::string_view bytes) {
  while (!bytes.empty()) {
    pollfd wait{socket_, POLLOUT, 0};
    const int ready = ::poll(&wait, 1, 100);
    if (now() > deadline_) {
      stop();
      throw WorkerFailure{WorkerFailure::Kind::too_slow, ""};
    }
    if (ready <= 0) continue;
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      // What it had to say before it ended may still be there to read.
      return;
    }
  }
}

std::string WorkerProcess::receive(std::size_t count) {
  std::string bytes(count, '\0');
  std::size_t have = 0;
  while (have < count) {
    pollfd wait{socket_, POLLIN, 0};
    const int ready = ::poll(&wait, 1, 100);
    if (now() > deadline_) {
      stop();
      throw WorkerFailure{WorkerFailure::Kind::too_slow, ""};
    }
    if (ready <= 0) continue;
    const ssize_t got = ::recv(socket_, bytes.data() + have, count - have, MSG_DONTWAIT);
    if (got > 0) {
      have += static_cast<std::size_t>(got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      stop();
      throw WorkerFailure{WorkerFailure::Kind::ended, "it ended"};
    }
  }
  return bytes;
}

}  // namespace snug
