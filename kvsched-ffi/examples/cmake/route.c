/* The example of kvsched-ffi/README.md, word for word. */
#include "kvsched.h"
#include <stdio.h>

int main(void) {
  kvsched_error error;
  kvsched_hasher *hasher = NULL;
  kvsched_scheduler *scheduler = NULL;
  kvsched_scratch *scratch = NULL; /* one a thread */
  kvsched_candidate candidates[2] = {{0}};
  kvsched_request request = {0};
  kvsched_decision decision;
  uint32_t tokens[100] = {0};
  kvsched_str none = {NULL, 0};

  /* Engines of vLLM 0.33 with default settings: sha256, no seed, 16 tokens a block. */
  if (kvsched_hasher_new_vllm(kvsched_text("0.33.0"), kvsched_text("sha256"), none, 16, &hasher,
                              &error) != KVSCHED_STATUS_OK ||
      kvsched_scheduler_new(hasher, NULL, &scheduler, &error) != KVSCHED_STATUS_OK ||
      kvsched_scratch_new(1, &scratch, &error) != KVSCHED_STATUS_OK ||
      kvsched_endpoint_add(scheduler, kvsched_text("pod-a"), 0, &candidates[0].endpoint, &error) !=
          KVSCHED_STATUS_OK ||
      kvsched_endpoint_add(scheduler, kvsched_text("pod-b"), 0, &candidates[1].endpoint, &error) !=
          KVSCHED_STATUS_OK) {
    return printf("%s\n", error.text), 1;
  }
  /* A message of pod-b's event socket: kvsched_ingest(scheduler, candidates[1].endpoint, sequence,
   * payload, payload_len, now_ns, &ingested, &error). If ingested.has_replay_from, ask the engine's
   * replay socket, and hand its answers to kvsched_replayed. */

  candidates[0].waiting_requests = 3; /* from the engines' metrics */
  if (kvsched_route(scheduler, scratch, &request, tokens, 100, NULL, candidates, 2, NULL, 0,
                    &decision, NULL, 0, &error) != KVSCHED_STATUS_OK) {
    return printf("%s\n", error.text), 1;
  }
  printf("endpoint %u, %u of %u blocks cached\n", decision.endpoint, decision.matched_blocks,
         decision.prompt_blocks);
  kvsched_scratch_free(&scratch);
  kvsched_scheduler_free(&scheduler);
  kvsched_hasher_free(&hasher);
  return 0;
}
