/* A recorded run of a real engine, which tests/c.rs writes into fixture.h. */
#ifndef RECORDED_H
#define RECORDED_H

#include "check.h"
#include "fixture.h"

static const kvsched_str NONE = {NULL, 0};

static inline kvsched_hasher *engine_hasher(void) {
  kvsched_hasher *hasher = NULL;
  kvsched_error error;
  OK(kvsched_hasher_new_vllm(kvsched_text(FIXTURE_VERSION), kvsched_text(FIXTURE_ALGORITHM),
                             kvsched_text(FIXTURE_SEED), FIXTURE_BLOCK, &hasher, &error));
  return hasher;
}

#endif
