// The printed names of the graph's enumerations.

#include <algorithm>
#include <array>
#include <utility>

#include "ir/graph.h"

namespace snug {
namespace {

template <class E, std::size_t N>
using NameTable = std::array<std::pair<E, std::string_view>, N>;

constexpr NameTable<Space, 3> kSpaces = {
    {{Space::device, "device"}, {Space::host, "host"}, {Space::disk, "disk"}}};
constexpr NameTable<Role, 13> kRoles = {{{Role::weight, "weight"},
                                         {Role::master, "master"},
                                         {Role::gradient, "gradient"},
                                         {Role::optimizer_state, "optimizer_state"},
                                         {Role::quant_state, "quant_state"},
                                         {Role::activation, "activation"},
                                         {Role::kv_cache, "kv_cache"},
                                         {Role::input, "input"},
                                         {Role::scalar, "scalar"},
                                         {Role::constant, "constant"},
                                         {Role::metric, "metric"},
                                         {Role::scratch, "scratch"},
                                         {Role::token, "token"}}};
constexpr NameTable<Scope, 4> kScopes = {{{Scope::run, "run"},
                                          {Scope::step, "step"},
                                          {Scope::call, "call"},
                                          {Scope::session, "session"}}};
constexpr NameTable<Phase, 4> kPhases = {{{Phase::forward, "forward"},
                                          {Phase::backward, "backward"},
                                          {Phase::update, "update"},
                                          {Phase::init, "init"}}};
constexpr NameTable<Lane, 5> kLanes = {{{Lane::compute, "compute"},
                                        {Lane::copy_in, "copy_in"},
                                        {Lane::copy_out, "copy_out"},
                                        {Lane::disk, "disk"},
                                        {Lane::comm, "comm"}}};

const auto& table_of(Space) { return kSpaces; }
const auto& table_of(Role) { return kRoles; }
const auto& table_of(Scope) { return kScopes; }
const auto& table_of(Phase) { return kPhases; }
const auto& table_of(Lane) { return kLanes; }

template <class E>
std::string_view find_name(E wanted) {
  for (const auto& [value, name] : table_of(wanted)) {
    if (value == wanted) return name;
  }
  internal_error("enumerator {} has no name", static_cast<int>(wanted));
}

}  // namespace

std::string_view name_of(Space space) { return find_name(space); }
std::string_view name_of(Role role) { return find_name(role); }
std::string_view name_of(Scope scope) { return find_name(scope); }
std::string_view name_of(Phase phase) { return find_name(phase); }
std::string_view name_of(Lane lane) { return find_name(lane); }

template <class E>
E enum_from_name(std::string_view wanted) {
  for (const auto& [value, name] : table_of(E{})) {
    if (name == wanted) return value;
  }
  internal_error("'{}' names no enumerator", wanted);
}

template Space enum_from_name<Space>(std::string_view);
template Role enum_from_name<Role>(std::string_view);
template Scope enum_from_name<Scope>(std::string_view);
template Phase enum_from_name<Phase>(std::string_view);
template Lane enum_from_name<Lane>(std::string_view);

}  // namespace snug
