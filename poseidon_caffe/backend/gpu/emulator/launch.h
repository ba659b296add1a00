// Between Python and the kernels of one source: included after them.
#pragma once

#include <type_traits>
#include <utility>

#include "kernel.h"

// Bounds of the section of `__shared__` variables, made by the linker.
extern "C" char __start_poseidon_shared[]
    __attribute__((weak, visibility("hidden")));
extern "C" char __stop_poseidon_shared[]
    __attribute__((weak, visibility("hidden")));

namespace poseidon {

template <class V>
constexpr char kind() {
  static_assert(std::is_pointer_v<V> || std::is_same_v<V, long long> ||
                    std::is_same_v<V, double>,
                "a kernel's parameters must be pointers, long long or double");
  return std::is_pointer_v<V> ? 'p' : std::is_same_v<V, double> ? 'd' : 'i';
}

template <class F>
struct Signature;
template <class... V>
struct Signature<void (*)(V...)> {
  static constexpr char kinds[] = {kind<V>()..., '\0'};

  template <void (*kernel)(V...), size_t... I>
  static void call(void** args, std::index_sequence<I...>) {
    (void)args;
    kernel(*static_cast<V*>(args[I])...);
  }
  template <void (*kernel)(V...)>
  static void thread(void** args) {
    call<kernel>(args, std::index_sequence_for<V...>());
  }
};

}  // namespace poseidon

#define POSEIDON_EXPORT extern "C" __attribute__((visibility("default")))
#define POSEIDON_LAUNCHER(name)                                                  \
  POSEIDON_EXPORT const char* poseidon_kinds_##name() {                          \
    return poseidon::Signature<decltype(&poseidon_kernels::name)>::kinds;        \
  }                                                                              \
  POSEIDON_EXPORT __attribute__((no_sanitize("thread"))) int                     \
      poseidon_launch_##name(                                                    \
      void** args, const unsigned int* grid, const unsigned int* block,          \
      char* message, long message_bytes) {                                       \
    using Signature = poseidon::Signature<decltype(&poseidon_kernels::name)>;    \
    const Kernel kernel = {Signature::thread<&poseidon_kernels::name>,           \
                           sizeof(Signature::kinds) - 1,                         \
                           __start_poseidon_shared,                              \
                           __stop_poseidon_shared,                               \
                           &__ehdr_start,                                        \
                           &_end};                                               \
    return poseidon_run(&kernel, args, grid, block, message, message_bytes);     \
  }
