/* What the clients' tests share. */
#ifndef CHECK_H
#define CHECK_H

#include "kvsched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many expectations were not met, in all files. */
extern int failures;

static inline void expect(int holds, const char *what, int line) {
  if (!holds) {
    printf("line %d: %s\n", line, what);
    failures++;
  }
}

static inline void expect_status(kvsched_status got, kvsched_status want, const char *call, int line) {
  if (got != want) {
    printf("line %d: %s: %s, expected %s\n", line, call, kvsched_status_text(got),
           kvsched_status_text(want));
    failures++;
  }
}

#define EXPECT(condition) expect((condition) ? 1 : 0, #condition, __LINE__)
#define STATUS(call, want) expect_status((call), KVSCHED_STATUS_##want, #call, __LINE__)
#define OK(call) STATUS(call, OK)


static inline kvsched_scheduler *scheduler_of(kvsched_hasher *hasher, const kvsched_settings *settings) {
  kvsched_scheduler *scheduler = NULL;
  kvsched_error error;
  kvsched_status status = kvsched_scheduler_new(hasher, settings, &scheduler, &error);
  STATUS(status, OK);
  if (status != KVSCHED_STATUS_OK) {
    printf("  %s\n", error.text);
    exit(1);
  }
  return scheduler;
}

static inline uint32_t add(kvsched_scheduler *scheduler, const char *name) {
  uint32_t endpoint = 12345;
  OK(kvsched_endpoint_add(scheduler, kvsched_text(name), 0, &endpoint, NULL));
  return endpoint;
}

static inline kvsched_scratch *new_scratch(uint64_t seed) {
  kvsched_scratch *scratch = NULL;
  OK(kvsched_scratch_new(seed, &scratch, NULL));
  return scratch;
}

/* What parts.c tests. */
void parts(void);

#endif
