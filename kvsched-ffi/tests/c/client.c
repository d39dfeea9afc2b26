/* Uses every call of kvsched.h, rightly and wrongly. Run by tests/c.rs. Exits with 0 if all was as expected. */
#include "recorded.h"

int failures = 0;

static void versions(void) {
  char version[64];
  EXPECT(kvsched_abi() == KVSCHED_ABI);
  kvsched_abi_1();
  snprintf(version, sizeof version, "%d.%d.%d", KVSCHED_VERSION_MAJOR, KVSCHED_VERSION_MINOR,
           KVSCHED_VERSION_PATCH);
  EXPECT(strcmp(version, kvsched_version()) == 0);
  EXPECT(strcmp(kvsched_status_text(KVSCHED_STATUS_OK), "ok") == 0);
  EXPECT(strcmp(kvsched_status_text(0), "unknown status") == 0);
}

static void hashes(void) {
  kvsched_hasher *hasher = NULL, *content = NULL;
  kvsched_error error;
  uint32_t tokens[100];
  uint64_t found[8], salted[8];
  size_t len = 0, i;
  kvsched_extras extras;
  for (i = 0; i < 100; i++) {
    tokens[i] = (uint32_t)i;
  }
  OK(kvsched_hasher_new_vllm(kvsched_text("0.33.0"), kvsched_text("sha256"), NONE, 16, &hasher,
                             &error));
  OK(kvsched_hasher_hash(hasher, tokens, 100, NULL, found, 8, &len, &error));
  EXPECT(len == 6);
  STATUS(kvsched_hasher_hash(hasher, tokens, 100, NULL, found, 5, &len, &error), BUFFER_TOO_SMALL);
  EXPECT(len == 6);
  EXPECT(strstr(error.text, "room for 5, needed are 6") != NULL);
  EXPECT(strlen(error.text) == error.len);

  memset(&extras, 0, sizeof extras);
  extras.cache_salt = kvsched_text("tenant-1");
  OK(kvsched_hasher_hash(hasher, tokens, 100, &extras, salted, 8, &len, &error));
  EXPECT(len == 6 && salted[0] != found[0] && salted[5] != found[5]);
  extras.cache_salt = NONE;
  OK(kvsched_hasher_hash(hasher, tokens, 100, &extras, salted, 8, &len, &error));
  EXPECT(memcmp(salted, found, 6 * sizeof *found) == 0);

  {
    kvsched_multimodal image;
    image.identifier = kvsched_text("3f2a");
    image.offset = 20;
    image.length = 8;
    extras.multimodal = &image;
    extras.multimodal_len = 1;
    OK(kvsched_hasher_hash(hasher, tokens, 100, &extras, salted, 8, &len, &error));
    EXPECT(salted[0] == found[0] && salted[1] != found[1]);
  }

  OK(kvsched_hasher_new_content(kvsched_text("model"), (const uint8_t *)"0123456789abcdef", 16, 16,
                                &content, NULL));
  OK(kvsched_hasher_hash(content, tokens, 100, NULL, salted, 8, &len, NULL));
  EXPECT(len == 6 && salted[0] != found[0]);
  OK(kvsched_hasher_hash(content, NULL, 0, NULL, NULL, 0, &len, NULL));
  EXPECT(len == 0);

  OK(kvsched_hasher_free(&hasher));
  OK(kvsched_hasher_free(&hasher));
  OK(kvsched_hasher_free(NULL));
  OK(kvsched_hasher_free(&content));
  EXPECT(hasher == NULL && content == NULL);
}

/* Every request of the recorded run, predicted before the engine served it. */
static void replay(void) {
  kvsched_hasher *hasher = engine_hasher();
  kvsched_scheduler *scheduler = scheduler_of(hasher, NULL);
  kvsched_scratch *scratch = new_scratch(1);
  uint32_t engine = add(scheduler, "engine"), idle = add(scheduler, "idle");
  size_t i, asked = 0, ingested = 0;
  kvsched_stats stats;
  kvsched_trust_report trust;
  char reason[128];
  size_t len;
  OK(kvsched_hasher_free(&hasher));
  OK(kvsched_trust(scheduler, engine, &trust, reason, sizeof reason, &len, NULL));
  EXPECT(trust.trust == KVSCHED_TRUST_APPROXIMATE);
  for (i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
    const struct step *step = &STEPS[i];
    if (step->payload != NULL) {
      kvsched_ingested row;
      kvsched_error error;
      OK(kvsched_ingest(scheduler, engine, step->sequence, step->payload, step->payload_len, i, &row,
                        &error));
      EXPECT(row.batches == 1 && row.unknown_events == 0 && row.refused == 0 && !row.duplicate);
      EXPECT(!row.has_replay_from && !row.restarted);
      ingested++;
    } else {
      kvsched_candidate candidates[2];
      kvsched_decision decision;
      kvsched_ranked ranked[2];
      kvsched_request request;
      kvsched_extras extras;
      uint32_t cached = 0;
      memset(&extras, 0, sizeof extras);
      if (step->lora != NULL) {
        extras.lora_name = kvsched_text(step->lora);
        extras.lora_path = kvsched_text(step->lora_path);
        extras.lora_int_id = step->lora_int_id;
      }
      extras.cache_salt = kvsched_text(step->salt);
      extras.embeds = step->embeds;
      extras.embeds_len = step->embeds_len;
      extras.embeds_row = step->embeds_row;
      OK(kvsched_cached_tokens(scheduler, scratch, engine, step->tokens, step->tokens_len,
                               &extras, &cached, NULL));
      if (step->exact && cached != step->cached) {
        printf("%s: predicted %u, engine %u\n", step->label, cached, step->cached);
        failures++;
      }
      asked += step->exact ? 1 : 0;

      memset(&request, 0, sizeof request);
      memset(candidates, 0, sizeof candidates);
      candidates[0].endpoint = idle;
      candidates[1].endpoint = engine;
      OK(kvsched_route(scheduler, scratch, &request, step->tokens, step->tokens_len, &extras,
                       candidates, 2, NULL, 0, &decision, ranked, 2, NULL));
      EXPECT(decision.candidates == 2 && decision.has_runner_up == 1);
      EXPECT(cached == 0 || decision.endpoint == engine);
      EXPECT(decision.endpoint != engine || decision.matched_blocks * FIXTURE_BLOCK == cached);
      EXPECT(ranked[0].endpoint == decision.endpoint && ranked[0].flags == KVSCHED_RANKED_CHOSEN);
      EXPECT(ranked[0].score == decision.score && ranked[1].score == decision.runner_up_score);
      EXPECT(ranked[0].tier_blocks[0] == ranked[0].matched_blocks);
    }
  }
  OK(kvsched_scheduler_stats(scheduler, &stats, NULL));
  EXPECT(stats.endpoints == 2 && stats.batches == ingested && stats.stored > 0);
  EXPECT(stats.removed > 0 && stats.refused == 0 && stats.duplicates == 0);
  OK(kvsched_trust(scheduler, engine, &trust, reason, sizeof reason, &len, NULL));
  EXPECT(trust.trust == KVSCHED_TRUST_EXACT && memcmp(reason, "every event", 11) == 0);
  printf("replayed: %zu messages, %zu single requests exact\n", ingested, asked);
  EXPECT(asked > 10);
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scheduler_free(&scheduler));
}

/* A lost message, asked for again; a payload that is no event batch; an engine that starts anew. */
static void gaps(void) {
  kvsched_hasher *hasher = engine_hasher();
  kvsched_scheduler *scheduler = scheduler_of(hasher, NULL);
  const struct step *messages[3];
  kvsched_ingested row;
  kvsched_trust_report trust;
  kvsched_error error;
  uint32_t engine = add(scheduler, "engine"), of = 9;
  size_t i, n = 0, len;
  for (i = 0; i < sizeof STEPS / sizeof *STEPS && n < 3; i++) {
    if (STEPS[i].payload != NULL) {
      messages[n++] = &STEPS[i];
    }
  }
  EXPECT(n == 3 && messages[0]->sequence == 0);
#define PASS(call, i, out)                                                                         \
  OK(call(scheduler, engine, messages[i]->sequence, messages[i]->payload,                         \
          messages[i]->payload_len, 5, out, NULL))
  PASS(kvsched_ingest, 0, &row);
  EXPECT(row.batches == 1);
  PASS(kvsched_ingest, 2, &row);
  EXPECT(row.batches == 0 && row.has_replay_from == 1 && row.replay_from == 1);
  OK(kvsched_trust(scheduler, engine, &trust, NULL, 0, &len, NULL));
  EXPECT(trust.trust == KVSCHED_TRUST_DEGRADED && trust.since_ns == 5 && len > 0);
  PASS(kvsched_replayed, 1, &row);
  EXPECT(row.batches == 2);
  OK(kvsched_replayed(scheduler, engine, UINT64_MAX, NULL, 0, 6, &row, NULL));
  OK(kvsched_tick(scheduler, engine, 7, &row, NULL));
  OK(kvsched_trust(scheduler, engine, &trust, NULL, 0, &len, NULL));
  EXPECT(trust.trust == KVSCHED_TRUST_EXACT);
  OK(kvsched_ingest(scheduler, engine, 3, (const uint8_t *)"junk", 4, 8, &row, NULL));
  EXPECT(row.batches == 0 && row.has_replay_from == 1 && row.replay_from == 3);
  PASS(kvsched_ingest, 1, &row);
  EXPECT(row.duplicate == 1);
  {
    /* Number 0 again, but not the batch that had it: a new life. */
    OK(kvsched_ingest(scheduler, engine, 0, messages[2]->payload, messages[2]->payload_len, 9, &row,
                      NULL));
    EXPECT(row.restarted == 1 && row.batches == 1);
  }
  OK(kvsched_tick(scheduler, engine, UINT64_MAX, NULL, NULL));
  OK(kvsched_trust(scheduler, engine, &trust, NULL, 0, &len, NULL));
  EXPECT(trust.trust == KVSCHED_TRUST_STALE);
#define UNDER(topic, rank, of)                                                                     \
  kvsched_ingest_topic(scheduler, kvsched_text(topic), rank, messages[1]->sequence,                \
                       messages[1]->payload, messages[1]->payload_len, 10, of, &row, &error)
  /* Whose message it is, its topic says. */
  OK(UNDER("kv@engine@org/model", 0, &of));
  EXPECT(of == engine && row.batches == 1);
  OK(UNDER("kv@engine@org/model", 0, NULL));
  EXPECT(row.duplicate == 1);
  of = 9;
  STATUS(UNDER("kv@engine@org/model", 1, &of), UNKNOWN_ENDPOINT);
  STATUS(UNDER("kv@other@org/model", 0, &of), UNKNOWN_ENDPOINT);
  STATUS(UNDER("kv-events", 0, &of), INVALID_ARGUMENT);
  STATUS(UNDER(NULL, 0, &of), NULL_POINTER);
  STATUS(UNDER("\xff", 0, &of), INVALID_UTF8);
  EXPECT(of == 9);
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_hasher_free(&hasher));
}

static void endpoints(void) {
  static const char CONFIG[] = "plugins:\n"
                               "- type: by-label\n"
                               "  parameters: {label: role, validValues: [decode]}\n"
                               "- type: queue-scorer\n";
  kvsched_hasher *hasher = engine_hasher();
  kvsched_settings settings;
  kvsched_scheduler *scheduler;
  kvsched_scratch *scratch = new_scratch(3);
  uint32_t tokens[200], a, b, found = 99, ids[3] = {7, 8, 9}, blocks[4];
  kvsched_candidate candidates[2];
  kvsched_request request;
  kvsched_decision decision;
  kvsched_ranked ranked[2];
  char text[2048], name[8];
  size_t len = 0;
  memset(tokens, 0, sizeof tokens);
  memset(&settings, 0, sizeof settings);
  settings.config = kvsched_text(CONFIG);
  scheduler = scheduler_of(hasher, &settings);
  a = add(scheduler, "pod-a");
  b = add(scheduler, "pod-b");
  EXPECT(a != b);
  OK(kvsched_endpoint_find(scheduler, kvsched_text("pod-b"), 0, &found, NULL));
  EXPECT(found == b);
  OK(kvsched_endpoint_name(scheduler, b, name, sizeof name, &len, NULL));
  EXPECT(len == 5 && memcmp(name, "pod-b", 5) == 0);
  OK(kvsched_endpoint_set_label(scheduler, a, kvsched_text("role"), kvsched_text("prefill"), NULL));
  OK(kvsched_endpoint_set_label(scheduler, b, kvsched_text("role"), kvsched_text("decode"), NULL));

  memset(&request, 0, sizeof request);
  memset(candidates, 0, sizeof candidates);
  request.session = kvsched_text("conversation-1");
  request.ttft_slo_ns = 1000000000;
  candidates[0].endpoint = a;
  candidates[1].endpoint = b;
  candidates[1].waiting_requests = 50; /* longer queue, but the only one with the label */
  candidates[0].lora_active = 1;
  candidates[1].lora_active = 1;
  candidates[1].lora_waiting = 1;
  OK(kvsched_route(scheduler, scratch, &request, tokens, 200, NULL, candidates, 2, ids, 3,
                   &decision, ranked, 2, NULL));
  EXPECT(decision.endpoint == b && decision.candidates == 1 && decision.has_runner_up == 0);
  EXPECT(ranked[1].endpoint == a && ranked[1].flags == KVSCHED_RANKED_DROPPED);
  OK(kvsched_explain(scheduler, scratch, text, sizeof text, &len, NULL));
  EXPECT(len < sizeof text && memcmp(text, "pod-b chosen by ", 16) == 0);
  STATUS(kvsched_explain(scheduler, scratch, NULL, 0, &len, NULL), BUFFER_TOO_SMALL);
  EXPECT(len > 16);
  OK(kvsched_matches(scratch, blocks, 4, &len, NULL));
  EXPECT(len <= 4);

  OK(kvsched_endpoint_remove(scheduler, b, NULL));
  STATUS(kvsched_endpoint_remove(scheduler, b, NULL), UNKNOWN_ENDPOINT);
  STATUS(kvsched_endpoint_find(scheduler, kvsched_text("pod-b"), 0, &found, NULL), UNKNOWN_ENDPOINT);
  STATUS(kvsched_route(scheduler, scratch, &request, tokens, 200, NULL, candidates, 1, ids, 1,
                       &decision, NULL, 0, NULL),
         NO_ENDPOINT);
  STATUS(kvsched_explain(scheduler, scratch, text, sizeof text, &len, NULL), NO_DECISION);
  EXPECT(add(scheduler, "pod-c") == b);

  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_hasher_free(&hasher));
}

/* Engines that announce nothing: the scheduler learns from what it decides. */
static void history(void) {
  kvsched_hasher *hasher = engine_hasher();
  kvsched_settings settings;
  kvsched_scheduler *scheduler;
  kvsched_scratch *scratch = new_scratch(5);
  uint32_t tokens[10 * FIXTURE_BLOCK], cached = 1, endpoints[2], other;
  kvsched_candidate candidates[2];
  kvsched_request request;
  kvsched_decision decision;
  memset(&settings, 0, sizeof settings);
  settings.history_blocks = 1000;
  settings.preset = kvsched_text("llm-d");
  scheduler = scheduler_of(hasher, &settings);
  memset(tokens, 0, sizeof tokens);
  memset(&request, 0, sizeof request);
  memset(candidates, 0, sizeof candidates);
  endpoints[0] = candidates[0].endpoint = add(scheduler, "a");
  endpoints[1] = candidates[1].endpoint = add(scheduler, "b");
  OK(kvsched_route(scheduler, scratch, &request, tokens, 10 * FIXTURE_BLOCK, NULL, candidates, 2,
                   NULL, 0, &decision, NULL, 0, NULL));
  OK(kvsched_cached_tokens(scheduler, scratch, decision.endpoint, tokens, 10 * FIXTURE_BLOCK,
                           NULL, &cached, NULL));
  EXPECT(cached == 0); /* routing alone teaches nothing */
  request.flags = KVSCHED_REQUEST_RECORD;
  OK(kvsched_route(scheduler, scratch, &request, tokens, 10 * FIXTURE_BLOCK, NULL, candidates, 2,
                   NULL, 0, &decision, NULL, 0, NULL));
  OK(kvsched_cached_tokens(scheduler, scratch, decision.endpoint, tokens, 10 * FIXTURE_BLOCK,
                           NULL, &cached, NULL));
  EXPECT(cached == 9 * FIXTURE_BLOCK);
  other = endpoints[decision.endpoint == endpoints[0]];
  OK(kvsched_record(scheduler, scratch, other, 1, NULL, NULL));
  OK(kvsched_cached_tokens(scheduler, scratch, other, tokens, 10 * FIXTURE_BLOCK, NULL, &cached,
                           NULL));
  EXPECT(cached == 9 * FIXTURE_BLOCK);
  STATUS(kvsched_record(scheduler, scratch, 77, 1, NULL, NULL), UNKNOWN_ENDPOINT);
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_scheduler_free(&scheduler));
  OK(kvsched_hasher_free(&hasher));
}

/* Mistakes of our own, by which the test sees that the sanitizers are on. */
static int provoke(const char *what, int argc) {
  if (strcmp(what, "address") == 0) {
    char *bytes = calloc(1, (size_t)argc);
    volatile char beyond = bytes[argc];
    free(bytes);
    return beyond;
  }
  if (strcmp(what, "undefined") == 0) {
    int most = 2147483647;
    volatile int more = most + argc;
    return more;
  }
  if (strcmp(what, "leak") == 0) {
    kvsched_scratch *lost = new_scratch(1);
    return lost == NULL;
  }
  printf("unknown provocation %s\n", what);
  return 2;
}

int main(int argc, char **argv) {
  if (argc > 1) {
    return provoke(argv[1], argc);
  }
  versions();
  hashes();
  replay();
  gaps();
  endpoints();
  history();
  misuse();
  threads();
  parts();
  alone();
  printf(failures ? "%d failures\n" : "all as expected\n", failures);
  return failures ? 1 : 0;
}
