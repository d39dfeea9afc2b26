/* What a caller may do wrong, and many callers at a time. */
#include "recorded.h"

#include <pthread.h>

void misuse(void) {
  kvsched_hasher *hasher = engine_hasher(), *other = NULL, *content = NULL;
  kvsched_scheduler *scheduler = scheduler_of(hasher, NULL), *none = NULL;
  kvsched_scratch *scratch = new_scratch(0);
  kvsched_settings settings;
  kvsched_error error;
  kvsched_request request;
  kvsched_candidate candidate;
  kvsched_decision decision;
  kvsched_ranked ranked;
  kvsched_extras extras;
  kvsched_str invalid;
  uint32_t tokens[64], too_big[FIXTURE_BLOCK + 1], cached, endpoint = add(scheduler, "a");
  uint64_t found[4], wide[32];
  size_t len = 0, i;
  char *odd = (char *)wide + 1, reason[1];
  kvsched_trust_report trust;
  kvsched_str text = kvsched_text("0.33.0"), sha = kvsched_text("sha256");
  memset(tokens, 0, sizeof tokens);
  memset(wide, 0, sizeof wide);
  memset(&settings, 0, sizeof settings);
  memset(&request, 0, sizeof request);
  memset(&candidate, 0, sizeof candidate);
  memset(&extras, 0, sizeof extras);
  candidate.endpoint = endpoint;
  invalid.data = (const uint8_t *)"\xff\xfe";
  invalid.len = 2;

  /* Hashers. */
  STATUS(kvsched_hasher_new_vllm(text, sha, NONE, 16, NULL, &error), NULL_POINTER);
  STATUS(kvsched_hasher_new_vllm(NONE, sha, NONE, 16, &other, &error), NULL_POINTER);
  STATUS(kvsched_hasher_new_vllm(text, invalid, NONE, 16, &other, &error), INVALID_UTF8);
  STATUS(kvsched_hasher_new_vllm(text, sha, NONE, 0, &other, &error), INVALID_ARGUMENT);
  STATUS(kvsched_hasher_new_vllm(text, kvsched_text("md5"), NONE, 16, &other, &error), SCHEME);
  STATUS(kvsched_hasher_new_vllm(kvsched_text("0.11.2"), sha, NONE, 16, &other, &error), SCHEME);
  EXPECT(error.len > 0 && strlen(error.text) == error.len && other == NULL);
  STATUS(kvsched_hasher_hash(NULL, tokens, 64, NULL, found, 4, &len, &error), NULL_POINTER);
  STATUS(kvsched_hasher_hash((kvsched_hasher *)scheduler, tokens, 64, NULL, found, 4, &len, &error),
         WRONG_HANDLE);
  STATUS(kvsched_hasher_hash((kvsched_hasher *)odd, tokens, 64, NULL, found, 4, &len, &error),
         MISALIGNED);
  STATUS(kvsched_hasher_hash(hasher, NULL, 64, NULL, found, 4, &len, &error), NULL_POINTER);
  STATUS(kvsched_hasher_hash(hasher, (uint32_t *)odd, 4, NULL, found, 4, &len, &error), MISALIGNED);
  STATUS(kvsched_hasher_hash(hasher, tokens, SIZE_MAX, NULL, found, 4, &len, &error), LENGTH);
  STATUS(kvsched_hasher_hash(hasher, tokens, 64, NULL, found, 4, NULL, &error), NULL_POINTER);
  STATUS(kvsched_hasher_hash(hasher, tokens, 64, NULL, found, SIZE_MAX, &len, &error), LENGTH);
  for (i = 0; i <= FIXTURE_BLOCK; i++) {
    too_big[i] = UINT32_MAX; /* engines keep token ids in 31 bits */
  }
  STATUS(kvsched_hasher_hash(hasher, too_big, FIXTURE_BLOCK, NULL, found, 4, &len, &error), PROMPT);
  EXPECT(strstr(error.text, "4294967295") != NULL);
  extras.embeds = (const uint8_t *)wide;
  extras.embeds_len = 8;
  STATUS(kvsched_hasher_hash(hasher, tokens, 64, &extras, found, 4, &len, &error),
         INVALID_ARGUMENT);

  /* Schedulers. */
  STATUS(kvsched_scheduler_new(NULL, NULL, &none, &error), NULL_POINTER);
  STATUS(kvsched_scheduler_new(hasher, NULL, NULL, &error), NULL_POINTER);
  settings.preset = kvsched_text("llmd");
  STATUS(kvsched_scheduler_new(hasher, &settings, &none, &error), CONFIG);
  EXPECT(strstr(error.text, "did you mean `llm-d`") != NULL);
  settings.config = kvsched_text("plugins: []");
  STATUS(kvsched_scheduler_new(hasher, &settings, &none, &error), CONFIG);
  settings.preset = NONE;
  settings.config = kvsched_text("plugins: [{type: queue-scoer}]");
  STATUS(kvsched_scheduler_new(hasher, &settings, &none, &error), CONFIG);
  settings.config = kvsched_text(": : :");
  STATUS(kvsched_scheduler_new(hasher, &settings, &none, &error), CONFIG);
  settings.config = kvsched_text("plugins: [{type: queue-scorer}]");
  settings.profile = kvsched_text("decode");
  STATUS(kvsched_scheduler_new(hasher, &settings, &none, &error), CONFIG);
  EXPECT(strstr(error.text, "`default`") != NULL);
  EXPECT(none == NULL);
  STATUS(kvsched_hasher_new_content(kvsched_text("m"), NULL, 16, 16, &content, NULL), NULL_POINTER);
  EXPECT(content == NULL);

  /* Endpoints. */
  STATUS(kvsched_endpoint_add(scheduler, kvsched_text("a"), 0, &cached, &error), NAME_TAKEN);
  STATUS(kvsched_endpoint_add(scheduler, kvsched_text(""), 0, &cached, &error), INVALID_ARGUMENT);
  STATUS(kvsched_endpoint_add(scheduler, kvsched_text("z"), 0, NULL, &error), NULL_POINTER);
  STATUS(kvsched_endpoint_find(scheduler, kvsched_text("a"), 1, &cached, &error), UNKNOWN_ENDPOINT);
  STATUS(kvsched_endpoint_name(scheduler, 1000000, NULL, 0, &len, &error), UNKNOWN_ENDPOINT);
  STATUS(kvsched_endpoint_name(scheduler, endpoint, NULL, 0, &len, &error), BUFFER_TOO_SMALL);
  EXPECT(len == 1);
  STATUS(kvsched_endpoint_set_label(scheduler, 9, text, text, &error), UNKNOWN_ENDPOINT);

  /* Events. */
  STATUS(kvsched_ingest(scheduler, endpoint, 0, NULL, 5, 0, NULL, &error), NULL_POINTER);
  STATUS(kvsched_ingest(scheduler, 9, 0, (const uint8_t *)"junk", 4, 0, NULL, &error),
         UNKNOWN_ENDPOINT);
  STATUS(kvsched_replayed(scheduler, 9, 0, NULL, 0, 0, NULL, &error), UNKNOWN_ENDPOINT);
  STATUS(kvsched_tick(scheduler, 9, 0, NULL, &error), UNKNOWN_ENDPOINT);
  STATUS(kvsched_trust(scheduler, 9, &trust, NULL, 0, &len, &error), UNKNOWN_ENDPOINT);
  STATUS(kvsched_trust(scheduler, endpoint, &trust, reason, 1, &len, &error), BUFFER_TOO_SMALL);
  EXPECT(len > 1);

  /* Requests. */
#define ROUTE(scratch_, request_, tokens_, candidates_, len_, ids_, ids_len_, out_, rows_, cap_)    \
  kvsched_route(scheduler, scratch_, request_, tokens_, 64, NULL, candidates_, len_, ids_,         \
                ids_len_, out_, rows_, cap_, &error)
  STATUS(ROUTE(NULL, &request, tokens, &candidate, 1, NULL, 0, &decision, NULL, 0), NULL_POINTER);
  STATUS(ROUTE((kvsched_scratch *)hasher, &request, tokens, &candidate, 1, NULL, 0, &decision, NULL,
               0),
         WRONG_HANDLE);
  STATUS(ROUTE(scratch, NULL, tokens, &candidate, 1, NULL, 0, &decision, NULL, 0), NULL_POINTER);
  STATUS(ROUTE(scratch, &request, NULL, &candidate, 1, NULL, 0, &decision, NULL, 0), NULL_POINTER);
  STATUS(ROUTE(scratch, &request, tokens, NULL, 1, NULL, 0, &decision, NULL, 0), NULL_POINTER);
  STATUS(ROUTE(scratch, &request, tokens, NULL, 0, NULL, 0, &decision, NULL, 0), NO_ENDPOINT);
  STATUS(ROUTE(scratch, &request, tokens, &candidate, 1, NULL, 0, NULL, NULL, 0), NULL_POINTER);
  STATUS(ROUTE(scratch, &request, tokens, &candidate, 1, NULL, 0, &decision, NULL, 1),
         NULL_POINTER);
  STATUS(ROUTE(scratch, &request, tokens, (kvsched_candidate *)odd, 1, NULL, 0, &decision, NULL, 0),
         MISALIGNED);
  STATUS(ROUTE(scratch, &request, tokens, &candidate, 1, tokens, 2, &decision, NULL, 0),
         INVALID_ARGUMENT);
  candidate.lora_waiting = 3;
  STATUS(ROUTE(scratch, &request, tokens, &candidate, 1, tokens, 2, &decision, NULL, 0),
         INVALID_ARGUMENT);
  candidate.lora_waiting = 0;
  request.flags = 1u << 31;
  STATUS(ROUTE(scratch, &request, tokens, &candidate, 1, NULL, 0, &decision, NULL, 0),
         INVALID_ARGUMENT);
  request.flags = KVSCHED_REQUEST_PINNED | KVSCHED_REQUEST_NEAR | KVSCHED_REQUEST_LORA;
  request.pinned = 1u << 20;
  STATUS(ROUTE(scratch, &request, tokens, &candidate, 1, NULL, 0, &decision, NULL, 0),
         UNKNOWN_ENDPOINT);
  request.flags = 0;
  request.session = invalid;
  STATUS(ROUTE(scratch, &request, tokens, &candidate, 1, NULL, 0, &decision, NULL, 0),
         INVALID_UTF8);
  request.session = NONE;
  {
    kvsched_candidate two[2];
    two[0] = two[1] = candidate;
    STATUS(ROUTE(scratch, &request, tokens, two, 2, NULL, 0, &decision, &ranked, 1),
           BUFFER_TOO_SMALL);
    two[1].endpoint = 5;
    STATUS(ROUTE(scratch, &request, tokens, two, 2, NULL, 0, &decision, NULL, 0), UNKNOWN_ENDPOINT);
  }
  STATUS(kvsched_cached_tokens(scheduler, scratch, 5, tokens, 64, NULL, &cached, &error),
         UNKNOWN_ENDPOINT);
  STATUS(kvsched_explain(scheduler, scratch, NULL, 0, &len, &error), NO_DECISION);
  STATUS(kvsched_matches(scratch, NULL, 0, NULL, &error), NULL_POINTER);
  STATUS(kvsched_matches((kvsched_scratch *)odd, NULL, 0, &len, &error), MISALIGNED);

  /* An unaligned place for the text is left alone; the status remains. */
  STATUS(kvsched_hasher_new_vllm(NONE, sha, NONE, 16, &other, (kvsched_error *)odd), NULL_POINTER);
  for (i = 0; i < 32; i++) {
    EXPECT(wide[i] == 0);
  }

  /* A handle of another kind is not freed as this one. */
  {
    kvsched_hasher *wrong = (kvsched_hasher *)scheduler;
    STATUS(kvsched_hasher_free(&wrong), WRONG_HANDLE);
    EXPECT(wrong != NULL);
  }
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_hasher_free(&hasher));
}

struct worker {
  kvsched_scheduler *scheduler;
  kvsched_scratch *shared;
  int writes;
  int wrong;
  int busy;
};

static void *work(void *argument) {
  struct worker *worker = argument;
  kvsched_scratch *scratch = NULL;
  kvsched_request request;
  kvsched_candidate candidates[2];
  int round;
  memset(&request, 0, sizeof request);
  memset(candidates, 0, sizeof candidates);
  candidates[1].endpoint = 1;
  if (kvsched_scratch_new(9, &scratch, NULL) != KVSCHED_STATUS_OK) {
    worker->wrong++;
    return NULL;
  }
  for (round = 0; round < 5; round++) {
    size_t i;
    for (i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
      const struct step *step = &STEPS[i];
      kvsched_decision decision;
      if (step->payload != NULL) {
        if (worker->writes && kvsched_ingest(worker->scheduler, 0, step->sequence, step->payload,
                                             step->payload_len, i, NULL,
                                             NULL) != KVSCHED_STATUS_OK) {
          worker->wrong++;
        }
      } else if (!worker->writes) {
        kvsched_status status;
        if (kvsched_route(worker->scheduler, scratch, &request, step->tokens, step->tokens_len,
                          NULL, candidates, 2, NULL, 0, &decision, NULL, 0,
                          NULL) != KVSCHED_STATUS_OK) {
          worker->wrong++;
        }
        /* One scratch for all threads: a mistake, which is told and not suffered. */
        status = kvsched_route(worker->scheduler, worker->shared, &request, step->tokens,
                               step->tokens_len, NULL, candidates, 2, NULL, 0, &decision, NULL, 0,
                               NULL);
        worker->busy += status == KVSCHED_STATUS_BUSY;
        worker->wrong += status != KVSCHED_STATUS_BUSY && status != KVSCHED_STATUS_OK;
      }
    }
  }
  kvsched_scratch_free(&scratch);
  return NULL;
}

void threads(void) {
  kvsched_hasher *hasher = engine_hasher();
  kvsched_scheduler *scheduler = scheduler_of(hasher, NULL);
  kvsched_scratch *shared = new_scratch(2);
  struct worker workers[4];
  pthread_t ids[4];
  int i;
  add(scheduler, "a");
  add(scheduler, "b");
  for (i = 0; i < 4; i++) {
    workers[i].scheduler = scheduler;
    workers[i].shared = shared;
    workers[i].writes = i == 0;
    workers[i].wrong = workers[i].busy = 0;
    EXPECT(pthread_create(&ids[i], NULL, work, &workers[i]) == 0);
  }
  for (i = 0; i < 4; i++) {
    EXPECT(pthread_join(ids[i], NULL) == 0);
    EXPECT(workers[i].wrong == 0);
  }
  OK(kvsched_scratch_free(&shared));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_hasher_free(&hasher));
}
