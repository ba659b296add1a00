// What a library of kernels tells the runtime about one of them.
#pragma once

struct Kernel {
  void (*thread)(void** args);  // runs one thread
  int arguments;                // how many, of 8 bytes each
  char *shared_begin, *shared_end;  // the `__shared__` variables of its source
  const char *image_begin, *image_end;  // the library in memory
};

// Every thread of every block; 0, or 1 and a message.
extern "C" int poseidon_run(const Kernel* kernel, void** args,
                            const unsigned int* grid, const unsigned int* block,
                            char* message, long message_bytes);

// First and last byte of the shared library that this is compiled into.
extern "C" const char __ehdr_start __attribute__((visibility("hidden")));
extern "C" const char _end __attribute__((visibility("hidden")));
