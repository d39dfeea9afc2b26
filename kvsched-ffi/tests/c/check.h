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

#define BLOCKS 10
#define BLOCK 16
#define SECOND 1000000000u

static inline kvsched_hasher *hasher_of_16(void) {
  kvsched_hasher *hasher = NULL;
  OK(kvsched_hasher_new_content(kvsched_text("m"), (const uint8_t *)"sixteen or more random bytes", 28,
                                BLOCK, &hasher, NULL));
  return hasher;
}

static inline void fill(uint32_t *tokens, size_t len) {
  size_t i;
  for (i = 0; i < len; i++) {
    tokens[i] = (uint32_t)(7 * i);
  }
}

/* A message of an engine that has stored one block of 16 tokens, 0 to 15, in the layout of arrays. */
static inline size_t stored_message(uint8_t *message) {
  static const uint8_t start[] = {0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x91, 0x96, 0xab};
  size_t n = sizeof start;
  uint8_t i;
  memcpy(message, start, n);
  memcpy(message + n, "BlockStored", 11);
  n += 11;
  message[n++] = 0x91;
  message[n++] = 77;   /* the engine's hash */
  message[n++] = 0xc0; /* no parent */
  message[n++] = 0xdc;
  message[n++] = 0;
  message[n++] = 16;
  for (i = 0; i < 16; i++) {
    message[n++] = i;
  }
  message[n++] = 16;
  message[n++] = 0xc0;
  message[n++] = 0; /* the rank */
  return n;
}

/* Moves a snapshot in small pieces. */
static inline void carry(kvsched_snapshot *snapshot, kvsched_restore *restore) {
  uint8_t piece[100];
  size_t len, pieces = 0;
  do {
    OK(kvsched_snapshot_read(snapshot, piece, sizeof piece, &len, NULL));
    OK(kvsched_restore_push(restore, piece, len, NULL));
    pieces++;
  } while (len > 0 && pieces < 10000);
  EXPECT(len == 0 && pieces > 2);
}

/* What the other files test. */
void parts(void);
void alone(void);
void misuse(void);
void threads(void);

#endif
