/* What is around the one call a request: other prompts, the doctor, ledger, scorers, snapshots. */
#include "check.h"

static void ledger(void) {
  kvsched_hasher *hasher = hasher_of_16();
  kvsched_scratch *scratch = NULL;
  kvsched_settings settings;
  kvsched_scheduler *scheduler, *without = scheduler_of(hasher, NULL);
  kvsched_request request;
  kvsched_candidate candidate, two[2];
  kvsched_decision first, second;
  kvsched_outstanding_work work;
  uint32_t tokens[BLOCKS * BLOCK], endpoint;
  uint64_t ticket = 9;
  fill(tokens, BLOCKS * BLOCK);
  memset(&settings, 0, sizeof settings);
  memset(&request, 0, sizeof request);
  memset(&candidate, 0, sizeof candidate);
  settings.in_flight_lease_ns = 60ull * SECOND;
  settings.speculation_ns = 5ull * SECOND;
  scheduler = scheduler_of(hasher, &settings);
  OK(kvsched_scratch_new_with_memo(scheduler, 1, 1 << 20, &scratch, NULL));
  STATUS(kvsched_scratch_new_with_memo(scheduler, 1, 1, &scratch, NULL), INVALID_ARGUMENT);
  candidate.endpoint = endpoint = add(scheduler, "a");
  request.flags = KVSCHED_REQUEST_RECORD;
  request.expected_output_tokens = 50;
  request.now_ns = SECOND;
  OK(kvsched_route(scheduler, scratch, &request, tokens, BLOCKS * BLOCK, NULL, &candidate, 1, NULL, 0,
                   &first, NULL, 0, NULL));
  EXPECT(first.ticket != 0 && first.matched_blocks == 0);
  OK(kvsched_outstanding(scheduler, endpoint, &work, NULL));
  EXPECT(work.requests == 1 && work.decoding == 0 && work.prefill_tokens == BLOCKS * BLOCK);
  EXPECT(work.kv_tokens == BLOCKS * BLOCK + 50);
  OK(kvsched_first_token(scheduler, first.ticket, NULL));
  STATUS(kvsched_first_token(scheduler, first.ticket, NULL), UNKNOWN_TICKET);
  OK(kvsched_outstanding(scheduler, endpoint, &work, NULL));
  EXPECT(work.requests == 1 && work.decoding == 1 && work.prefill_tokens == 0);

  /* No event has come, but the prompt is expected where it was sent, for a while. */
  OK(kvsched_route(scheduler, scratch, &request, tokens, BLOCKS * BLOCK, NULL, &candidate, 1, NULL, 0,
                   &second, NULL, 0, NULL));
  EXPECT(second.matched_blocks == BLOCKS - 1 && second.ticket != first.ticket);
  OK(kvsched_outstanding(scheduler, endpoint, &work, NULL));
  EXPECT(work.requests == 2 && work.prefill_tokens == BLOCK);
  OK(kvsched_finish(scheduler, first.ticket, 50, 2 * SECOND, NULL));
  STATUS(kvsched_finish(scheduler, first.ticket, 50, 2 * SECOND, NULL), UNKNOWN_TICKET);
  OK(kvsched_finish(scheduler, second.ticket, 0, 2 * SECOND, NULL));
  OK(kvsched_outstanding(scheduler, endpoint, &work, NULL));
  EXPECT(work.requests == 0 && work.kv_tokens == 0);

  OK(kvsched_record(scheduler, scratch, endpoint, 3 * SECOND, &ticket, NULL));
  EXPECT(ticket != 0 && ticket != 9);
  OK(kvsched_finish(scheduler, 0, 0, 0, NULL));
  OK(kvsched_first_token(scheduler, 0, NULL));
  STATUS(kvsched_finish(scheduler, UINT64_MAX, 0, 0, NULL), UNKNOWN_TICKET);
  STATUS(kvsched_outstanding(scheduler, 99, &work, NULL), UNKNOWN_ENDPOINT);

  /* The ledger's count decides between endpoints whose metrics are alike. */
  memset(two, 0, sizeof two);
  two[0].endpoint = endpoint;
  two[1].endpoint = add(scheduler, "b");
  request.flags = 0;
  request.now_ns = 20ull * SECOND; /* nothing is expected any more */
  OK(kvsched_tick(scheduler, endpoint, 20ull * SECOND, NULL, NULL));
  OK(kvsched_route(scheduler, scratch, &request, tokens, BLOCKS * BLOCK, NULL, two, 2, NULL, 0, &first,
                   NULL, 0, NULL));
  EXPECT(first.endpoint == two[1].endpoint && first.ticket == 0);

  /* Without a ledger there are no tickets. */
  two[0].endpoint = add(without, "a");
  request.flags = KVSCHED_REQUEST_RECORD;
  OK(kvsched_route(without, scratch, &request, tokens, BLOCKS * BLOCK, NULL, two, 1, NULL, 0, &first, NULL,
                   0, NULL));
  EXPECT(first.ticket == 0);
  STATUS(kvsched_finish(without, ticket, 0, 0, NULL), UNKNOWN_TICKET);
  OK(kvsched_outstanding(without, two[0].endpoint, &work, NULL));
  EXPECT(work.requests == 0);
  OK(kvsched_endpoint_set_cache_blocks(without, two[0].endpoint, 100, NULL));
  STATUS(kvsched_endpoint_set_cache_blocks(without, 99, 100, NULL), UNKNOWN_ENDPOINT);

  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_scheduler_free(&without));
  OK(kvsched_hasher_free(&hasher));
}

struct seen {
  int calls;
  uint32_t favourite;
};

static void favour(void *context, const kvsched_scored_request *request, const kvsched_scored_row *rows,
                   size_t rows_len, double *scores) {
  struct seen *seen = context;
  size_t i;
  seen->calls++;
  EXPECT(request->prompt_tokens == 40 && request->block_size == BLOCK && request->now_ns == 5);
  for (i = 0; i < rows_len; i++) {
    EXPECT(rows[i].uncached_tokens == 40 && rows[i].matched_blocks == 0);
    EXPECT(rows[i].waiting_requests == 3 * rows[i].endpoint);
    scores[i] = rows[i].endpoint == seen->favourite ? 1.0 : 0.25;
  }
}

static void scorers(void) {
  static const char CONFIG[] = "plugins: [{type: favour}, {type: queue-scorer}, {type: max-score-picker}]\n"
                               "schedulingProfiles:\n"
                               "- name: default\n"
                               "  plugins:\n"
                               "  - {pluginRef: favour, weight: 3}\n"
                               "  - {pluginRef: queue-scorer, weight: 1}\n"
                               "  - {pluginRef: max-score-picker}\n";
  enum { MANY = 40 };
  kvsched_hasher *hasher = hasher_of_16();
  kvsched_scheduler *scheduler = NULL;
  kvsched_scratch *scratch = new_scratch(1);
  kvsched_settings settings;
  kvsched_scorer scorer;
  struct seen seen = {0, 2};
  kvsched_request request;
  kvsched_candidate candidates[MANY];
  kvsched_decision decision;
  kvsched_error error;
  uint32_t tokens[40], i;
  char text[4096];
  size_t len;
  fill(tokens, 40);
  memset(&settings, 0, sizeof settings);
  memset(&scorer, 0, sizeof scorer);
  memset(&request, 0, sizeof request);
  memset(candidates, 0, sizeof candidates);
  request.now_ns = 5;
  scorer.name = kvsched_text("favour");
  scorer.weight = 1.0;
  scorer.score = favour;
  scorer.context = &seen;
  settings.scorers = &scorer;
  settings.scorers_len = 1;

  scheduler = scheduler_of(hasher, &settings);
  for (i = 0; i < MANY; i++) {
    char name[8];
    sprintf(name, "e%u", i);
    candidates[i].endpoint = add(scheduler, name);
    candidates[i].waiting_requests = 3 * i;
  }
  OK(kvsched_route(scheduler, scratch, &request, tokens, 40, NULL, candidates, 3, NULL, 0, &decision, NULL,
                   0, NULL));
  EXPECT(decision.endpoint == 2 && decision.score == 1.0 && seen.calls == 1);
  seen.favourite = MANY - 1;
  OK(kvsched_route(scheduler, scratch, &request, tokens, 40, NULL, candidates, MANY, NULL, 0, &decision,
                   NULL, 0, NULL));
  EXPECT(decision.endpoint == MANY - 1 && seen.calls == 2);
  OK(kvsched_explain(scheduler, scratch, text, sizeof text - 1, &len, NULL));
  text[len] = 0;
  EXPECT(strstr(text, "favour") != NULL);
  OK(kvsched_scheduler_free(&scheduler));

  /* Weighed by a configuration, beside others: 3/4 of 0.25 against 1/4 of an empty queue. */
  settings.config = kvsched_text(CONFIG);
  scheduler = scheduler_of(hasher, &settings);
  seen.favourite = 1;
  for (i = 0; i < 3; i++) {
    add(scheduler, i == 0 ? "a" : i == 1 ? "b" : "c");
  }
  OK(kvsched_route(scheduler, scratch, &request, tokens, 40, NULL, candidates, 3, NULL, 0, &decision, NULL,
                   0, NULL));
  EXPECT(decision.endpoint == 1 && decision.runner_up == 0);
  OK(kvsched_scheduler_free(&scheduler));

  settings.preset = kvsched_text("llm-d");
  STATUS(kvsched_scheduler_new(hasher, &settings, &scheduler, &error), CONFIG);
  settings.config.data = NULL;
  settings.config.len = 0;
  STATUS(kvsched_scheduler_new(hasher, &settings, &scheduler, &error), CONFIG);
  EXPECT(strstr(error.text, "scorers") != NULL);
  settings.preset.data = NULL;
  settings.preset.len = 0;
  scorer.weight = -1.0;
  STATUS(kvsched_scheduler_new(hasher, &settings, &scheduler, &error), CONFIG);
  scorer.weight = 1.0;
  scorer.score = NULL;
  STATUS(kvsched_scheduler_new(hasher, &settings, &scheduler, &error), NULL_POINTER);
  EXPECT(strstr(error.text, "favour") != NULL);
  scorer.name.data = NULL;
  scorer.name.len = 0;
  STATUS(kvsched_scheduler_new(hasher, &settings, &scheduler, &error), NULL_POINTER);
  settings.scorers = NULL;
  STATUS(kvsched_scheduler_new(hasher, &settings, &scheduler, &error), NULL_POINTER);
  settings.scorers_len = 0;
  settings.byte_budget = 5;
  STATUS(kvsched_scheduler_new(hasher, &settings, &scheduler, &error), CONFIG);
  EXPECT(scheduler == NULL);
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_hasher_free(&hasher));
}

static void snapshots(void) {
  kvsched_hasher *hasher = hasher_of_16(), *other = NULL;
  kvsched_scheduler *scheduler = scheduler_of(hasher, NULL), *restored = NULL;
  kvsched_scratch *scratch = new_scratch(1);
  kvsched_snapshot *snapshot = NULL;
  kvsched_restore *restore = NULL;
  kvsched_settings settings;
  kvsched_error error;
  uint8_t message[128];
  uint32_t tokens[20], cached, all[4], b;
  uint64_t next = 9;
  size_t i, len;
  add(scheduler, "a");
  b = add(scheduler, "b");
  for (i = 0; i < 20; i++) {
    tokens[i] = (uint32_t)i;
  }
  OK(kvsched_ingest(scheduler, b, 0, message, stored_message(message), 1, NULL, NULL));
  OK(kvsched_cached_tokens(scheduler, scratch, b, tokens, 20, NULL, &cached, NULL));
  EXPECT(cached == 16);
  OK(kvsched_snapshot_new(scheduler, &snapshot, NULL));
  OK(kvsched_restore_new(hasher, NULL, &restore, NULL));
  STATUS(kvsched_snapshot_read(snapshot, message, 0, &len, NULL), BUFFER_TOO_SMALL);
  carry(snapshot, restore);
  OK(kvsched_restore_finish(restore, 5, &restored, NULL));
  STATUS(kvsched_restore_finish(restore, 5, &restored, &error), INVALID_ARGUMENT);
  OK(kvsched_cached_tokens(restored, scratch, b, tokens, 20, NULL, &cached, NULL));
  EXPECT(cached == 16);
  OK(kvsched_endpoint_list(restored, all, 4, &len, NULL));
  EXPECT(len == 2 && all[0] == 0 && all[1] == b);
  STATUS(kvsched_endpoint_list(restored, all, 1, &len, NULL), BUFFER_TOO_SMALL);
  EXPECT(len == 2);
  OK(kvsched_next_sequence(restored, b, &next, NULL));
  EXPECT(next == 1);
  STATUS(kvsched_next_sequence(restored, 99, &next, NULL), UNKNOWN_ENDPOINT);
  OK(kvsched_restore_free(&restore));
  OK(kvsched_restore_free(&restore));
  OK(kvsched_snapshot_free(&snapshot));
  OK(kvsched_scheduler_free(&restored));

  /* A hasher of another secret would never match: refused. */
  OK(kvsched_hasher_new_content(kvsched_text("m"), (const uint8_t *)"another sixteen bytes", 21, BLOCK,
                                &other, NULL));
  OK(kvsched_snapshot_new(scheduler, &snapshot, NULL));
  OK(kvsched_restore_new(other, NULL, &restore, NULL));
  carry(snapshot, restore);
  STATUS(kvsched_restore_finish(restore, 5, &restored, &error), SNAPSHOT);
  EXPECT(strstr(error.text, "other names") != NULL);
  OK(kvsched_restore_free(&restore));

  /* Bytes that are no snapshot, too few, or for something else. */
  OK(kvsched_restore_new(hasher, NULL, &restore, NULL));
  STATUS(kvsched_restore_push(restore, (const uint8_t *)"no snapshot at all", 18, &error), SNAPSHOT);
  STATUS(kvsched_restore_push(restore, (const uint8_t *)"x", 1, &error), INVALID_ARGUMENT);
  OK(kvsched_restore_free(&restore));
  OK(kvsched_restore_new(hasher, NULL, &restore, NULL));
  STATUS(kvsched_restore_finish(restore, 5, &restored, &error), SNAPSHOT);
  STATUS(kvsched_restore_finish((kvsched_restore *)hasher, 5, &restored, &error), WRONG_HANDLE);
  STATUS(kvsched_snapshot_read((kvsched_snapshot *)restore, message, 1, &len, &error), WRONG_HANDLE);
  OK(kvsched_restore_free(&restore));
  memset(&settings, 0, sizeof settings);
  settings.history_blocks = 10;
  STATUS(kvsched_restore_new(hasher, &settings, &restore, &error), CONFIG);
  EXPECT(restore == NULL && restored == NULL);
  OK(kvsched_scheduler_free(&scheduler));
  scheduler = scheduler_of(hasher, &settings);
  OK(kvsched_snapshot_free(&snapshot));
  STATUS(kvsched_snapshot_new(scheduler, &snapshot, &error), INVALID_ARGUMENT);
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_hasher_free(&other));
  OK(kvsched_hasher_free(&hasher));
}

/* Prompts as block hashes, and as text. */
static void other_prompts(void) {
  static const char TEXT[] = "You are a helpful assistant. Answer in one sentence, and politely. What is a hash?";
  kvsched_hasher *hasher = hasher_of_16();
  kvsched_settings settings;
  kvsched_scheduler *scheduler;
  kvsched_scratch *scratch = new_scratch(1);
  kvsched_request request;
  kvsched_candidate candidate;
  kvsched_decision decision;
  kvsched_error error;
  uint32_t tokens[BLOCKS * BLOCK + 1], few[2];
  uint64_t hashes[BLOCKS];
  size_t len;
  fill(tokens, BLOCKS * BLOCK + 1);
  memset(&settings, 0, sizeof settings);
  memset(&request, 0, sizeof request);
  memset(&candidate, 0, sizeof candidate);
  settings.history_blocks = 100;
  scheduler = scheduler_of(hasher, &settings);
  candidate.endpoint = add(scheduler, "a");
  OK(kvsched_hasher_hash(hasher, tokens, BLOCKS * BLOCK + 1, NULL, hashes, BLOCKS, &len, NULL));
  EXPECT(len == BLOCKS);
  request.flags = KVSCHED_REQUEST_RECORD;
  request.hashes = hashes;
  request.hashes_len = BLOCKS / 2;
  OK(kvsched_route(scheduler, scratch, &request, NULL, 0, NULL, &candidate, 1, NULL, 0, &decision, NULL, 0,
                   NULL));
  EXPECT(decision.matched_blocks == 0 && decision.prompt_blocks == BLOCKS / 2);
  /* What was named by hashes is found by tokens, and the other way round. */
  request.hashes = NULL;
  request.hashes_len = 0;
  OK(kvsched_route(scheduler, scratch, &request, tokens, BLOCKS * BLOCK + 1, NULL, &candidate, 1, NULL, 0,
                   &decision, NULL, 0, NULL));
  EXPECT(decision.matched_blocks == BLOCKS / 2 && decision.prompt_blocks == BLOCKS);
  request.hashes = hashes;
  request.hashes_len = BLOCKS;
  OK(kvsched_route(scheduler, scratch, &request, NULL, 0, NULL, &candidate, 1, NULL, 0, &decision, NULL, 0,
                   NULL));
  EXPECT(decision.matched_blocks == BLOCKS);
  request.hashes = NULL;
  STATUS(kvsched_route(scheduler, scratch, &request, NULL, 0, NULL, &candidate, 1, NULL, 0, &decision, NULL,
                       0, &error),
         NULL_POINTER);
  request.hashes_len = 0;

  OK(kvsched_text_tokens(kvsched_text(TEXT), tokens, BLOCKS * BLOCK, &len, NULL));
  EXPECT(len == (sizeof TEXT - 1) / 3);
  OK(kvsched_route(scheduler, scratch, &request, tokens, len, NULL, &candidate, 1, NULL, 0, &decision, NULL,
                   0, NULL));
  EXPECT(decision.matched_blocks == 0);
  OK(kvsched_route(scheduler, scratch, &request, tokens, len, NULL, &candidate, 1, NULL, 0, &decision, NULL,
                   0, NULL));
  EXPECT(decision.matched_blocks == 1 && decision.prompt_blocks == 1);
  /* The same in one call. */
  request.text = kvsched_text(TEXT);
  OK(kvsched_route(scheduler, scratch, &request, NULL, 0, NULL, &candidate, 1, NULL, 0, &decision, NULL, 0,
                   NULL));
  EXPECT(decision.matched_blocks == 1 && decision.prompt_blocks == 1);
  STATUS(kvsched_route(scheduler, scratch, &request, tokens, len, NULL, &candidate, 1, NULL, 0, &decision,
                       NULL, 0, &error),
         INVALID_ARGUMENT);
  request.text = kvsched_text("\xff");
  STATUS(kvsched_route(scheduler, scratch, &request, NULL, 0, NULL, &candidate, 1, NULL, 0, &decision, NULL,
                       0, &error),
         INVALID_UTF8);
  STATUS(kvsched_text_tokens(kvsched_text(TEXT), few, 2, &len, &error), BUFFER_TOO_SMALL);
  EXPECT(len > 2);
  STATUS(kvsched_text_tokens(kvsched_text(NULL), few, 2, &len, &error), NULL_POINTER);
  STATUS(kvsched_text_tokens(kvsched_text("\xff"), few, 2, &len, &error), INVALID_UTF8);
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_hasher_free(&hasher));
}

/* An engine that hashes otherwise than was said: found out, told, and named by its tokens. */
static void doctor(void) {
  kvsched_hasher *engine = NULL, *content = hasher_of_16();
  kvsched_settings settings;
  kvsched_scheduler *scheduler, *unchecked;
  kvsched_scratch *scratch = new_scratch(1);
  kvsched_error error;
  uint8_t message[128];
  uint32_t tokens[20], cached = 0, endpoint, i;
  char text[4096];
  size_t len = 9;
  for (i = 0; i < 20; i++) {
    tokens[i] = i;
  }
  OK(kvsched_hasher_new_vllm(kvsched_text("0.33.0"), kvsched_text("sha256"), kvsched_text(NULL), BLOCK, &engine,
                             NULL));
  memset(&settings, 0, sizeof settings);
  settings.fallback = content;
  scheduler = scheduler_of(engine, &settings);
  unchecked = scheduler_of(engine, NULL);
  endpoint = add(scheduler, "a");
  add(unchecked, "a");
  OK(kvsched_diagnose(scheduler, endpoint, text, sizeof text, &len, NULL));
  EXPECT(len == 0);
  /* Its hash of the block is 77, which no scheme gives. */
  OK(kvsched_ingest(scheduler, endpoint, 0, message, stored_message(message), 1, NULL, NULL));
  OK(kvsched_ingest(unchecked, endpoint, 0, message, stored_message(message), 1, NULL, NULL));
  OK(kvsched_diagnose(scheduler, endpoint, text, sizeof text, &len, NULL));
  EXPECT(len > 20 && text[len - 1] == '\n');
  STATUS(kvsched_diagnose(scheduler, endpoint, text, 5, &len, &error), BUFFER_TOO_SMALL);
  OK(kvsched_diagnose(unchecked, endpoint, text, sizeof text, &len, NULL));
  EXPECT(len == 0);
  STATUS(kvsched_diagnose(scheduler, 99, text, sizeof text, &len, &error), UNKNOWN_ENDPOINT);
  OK(kvsched_cached_tokens(scheduler, scratch, endpoint, tokens, 20, NULL, &cached, NULL));
  EXPECT(cached == 16);
  OK(kvsched_cached_tokens(unchecked, scratch, endpoint, tokens, 20, NULL, &cached, NULL));
  EXPECT(cached == 0);
  settings.fallback = (kvsched_hasher *)scratch;
  STATUS(kvsched_scheduler_new(engine, &settings, &unchecked, &error), WRONG_HANDLE);
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_scheduler_free(&unchecked));
  OK(kvsched_hasher_free(&content));
  OK(kvsched_hasher_free(&engine));
}

void parts(void) {
  other_prompts();
  doctor();
  ledger();
  scorers();
  snapshots();
}
