/* kvsched: which endpoint should serve this prompt?
 *
 * Copyright: the kvsched authors. Licence: Apache-2.0.
 *
 * Every call that can fail returns a kvsched_status and, where `error` is not NULL, says there in
 * words what was wrong. Outputs are written only by calls that return KVSCHED_STATUS_OK, but for
 * lengths, which BUFFER_TOO_SMALL writes too. Texts are not NUL-terminated unless it is said.
 *
 * How to use it, with the rules for threads and memory: kvsched-ffi/README.md.
 * Generated from the Rust source; changes made here are lost. */

#ifndef KVSCHED_H
#define KVSCHED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// How far the picture of an endpoint's cache can be believed: `kvsched_trust_report.trust`.
// All of the endpoint's events are known.
#define KVSCHED_TRUST_EXACT 0

// Events are missing or were not understood: part of what is reported may be gone.
#define KVSCHED_TRUST_DEGRADED 1

// Only our own routing is known, or nothing yet.
#define KVSCHED_TRUST_APPROXIMATE 2

// Nothing was heard for too long: what is reported was true then.
#define KVSCHED_TRUST_STALE 3

// `kvsched_ranked.flags`: the endpoint was chosen.
#define KVSCHED_RANKED_CHOSEN 1

// `kvsched_ranked.flags`: a filter dropped the endpoint; its score is 0.
#define KVSCHED_RANKED_DROPPED 2

// How many tiers of memory a block may lie in: 0 is the device, 1 its host, 2 a disk, 3 a shared
// store; the others are the embedder's, the last one also that of an unknown medium.
#define KVSCHED_TIERS 8

// `kvsched_request.flags`: `lora_id` is set.
#define KVSCHED_REQUEST_LORA 1

// `kvsched_request.flags`: `pinned` is set.
#define KVSCHED_REQUEST_PINNED 2

// `kvsched_request.flags`: `near` is set.
#define KVSCHED_REQUEST_NEAR 4

// `kvsched_request.flags`: the request will be sent to whomever the call chooses. Saves the call of
// `kvsched_record`.
#define KVSCHED_REQUEST_RECORD 8

// Bytes of `kvsched_error.text`, with the NUL at its end.
#define KVSCHED_ERROR_TEXT 504

// Which binary interface this is. A library with another number cannot be called through this
// header.
#define KVSCHED_ABI 1

// The release's major number.
#define KVSCHED_VERSION_MAJOR 0

// The release's minor number.
#define KVSCHED_VERSION_MINOR 1

// The release's patch number.
#define KVSCHED_VERSION_PATCH 0

// What a call came to.
//
// `KVSCHED_STATUS_OK` is not 0, so that zeroed memory never reads as success: compare with it,
// do not test for truth. Numbers keep their meaning for ever; one that is given up is not used
// again.
enum kvsched_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The call did what it says.
  KVSCHED_STATUS_OK = 1,
  // A pointer that must not be NULL is.
  KVSCHED_STATUS_NULL_POINTER = 10,
  // A pointer is not aligned as its type needs.
  KVSCHED_STATUS_MISALIGNED = 11,
  // An array is longer than memory can be.
  KVSCHED_STATUS_LENGTH = 12,
  // A handle is of another kind than the call needs, or has been freed.
  KVSCHED_STATUS_WRONG_HANDLE = 13,
  // A text is not UTF-8.
  KVSCHED_STATUS_INVALID_UTF8 = 14,
  // A number or flag is out of its range.
  KVSCHED_STATUS_INVALID_ARGUMENT = 15,
  // The caller's buffer is too small; where there is a length output, it says what is needed.
  KVSCHED_STATUS_BUFFER_TOO_SMALL = 16,
  // Another thread is using the scratch.
  KVSCHED_STATUS_BUSY = 20,
  // An earlier call panicked while it changed the handle: free it and start anew.
  KVSCHED_STATUS_BROKEN = 21,
  // A bug in kvsched: the call panicked. The process is intact.
  KVSCHED_STATUS_PANIC = 22,
  // The hashes of that engine, version, algorithm and seed cannot be reproduced.
  KVSCHED_STATUS_SCHEME = 30,
  // The preset is unknown, or the configuration is wrong.
  KVSCHED_STATUS_CONFIG = 31,
  // The bytes are no snapshot, or not a whole one, or of another hasher.
  KVSCHED_STATUS_SNAPSHOT = 32,
  // The endpoint was never added, or has been removed.
  KVSCHED_STATUS_UNKNOWN_ENDPOINT = 40,
  // An endpoint of that name exists.
  KVSCHED_STATUS_NAME_TAKEN = 41,
  // No endpoint id is left.
  KVSCHED_STATUS_FULL = 42,
  // The ticket is of no request that is under way.
  KVSCHED_STATUS_UNKNOWN_TICKET = 43,
  // The prompt cannot be hashed.
  KVSCHED_STATUS_PROMPT = 50,
  // No endpoint can be chosen: none was offered, or filters dropped all.
  KVSCHED_STATUS_NO_ENDPOINT = 51,
  // Nothing has been decided with this scratch.
  KVSCHED_STATUS_NO_DECISION = 52,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kvsched_status kvsched_status;
#else
typedef uint32_t kvsched_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How an engine names its blocks. Immutable: any number of threads may use one at a time.
typedef struct kvsched_hasher kvsched_hasher;

// What was sent where, without a scheduler around it: an approximation of what is cached, for engines
// that announce nothing. Any number of threads may use one at a time, with any calls but
// `kvsched_history_free`.
typedef struct kvsched_history kvsched_history;

// Who holds which blocks, without a scheduler around it. Any number of threads may use one at a time,
// with any calls but `kvsched_index_free`; matching takes no lock.
typedef struct kvsched_index kvsched_index;

// A scheduler or an index on its way back from a snapshot's bytes. Threads take turns.
typedef struct kvsched_restore kvsched_restore;

// Which endpoint serves a prompt.
//
// Any number of threads may use one at a time, with any calls but `kvsched_scheduler_free`.
// Routing waits for nobody; messages of different endpoints are taken in side by side.
typedef struct kvsched_scheduler kvsched_scheduler;

// Buffers and randomness of one routing thread, and its last decision. Keep one a thread: once
// it has seen the fleet and the longest prompt, a decision allocates nothing. Two threads that
// use one at a time get `BUSY`.
typedef struct kvsched_scratch kvsched_scratch;

// What a scheduler or an index knows, as bytes that are read piece by piece. Versioned and
// checksummed. Threads take turns.
typedef struct kvsched_snapshot kvsched_snapshot;

// One endpoint's numbered messages on their way into an index, without a scheduler around it. Threads
// take turns.
typedef struct kvsched_stream kvsched_stream;

// A text of the caller's: `len` bytes of UTF-8, without a NUL. `data` NULL means that there is
// none, where that is allowed; a `len` of 0 with another `data` is an empty text.
typedef struct kvsched_str {
  // The first byte.
  const uint8_t *data;
  // How many bytes.
  size_t len;
} kvsched_str;

// Why a call failed, in words. The caller's memory; written only by calls that fail.
typedef struct kvsched_error {
  // Bytes of the text, without the NUL.
  size_t len;
  // The text: UTF-8 with a NUL after it, cut off where it is too long.
  char text[KVSCHED_ERROR_TEXT];
} kvsched_error;

// One multimodal item within the prompt.
typedef struct kvsched_multimodal {
  // The item's content hash, or the identifier its user gave it.
  struct kvsched_str identifier;
  // Its first token's position in the prompt.
  uint32_t offset;
  // How many tokens it takes.
  uint32_t length;
} kvsched_multimodal;

// What makes two equal token sequences different KV. All zero: nothing.
typedef struct kvsched_extras {
  // The LoRA adapter's name; NULL without one.
  struct kvsched_str lora_name;
  // The adapter's path, exactly as the engine was given it; NULL counts as empty.
  struct kvsched_str lora_path;
  // The engine's number for the adapter.
  int64_t lora_int_id;
  // The request's cache salt; NULL without one.
  struct kvsched_str cache_salt;
  // Multimodal items, in order of their offset.
  const struct kvsched_multimodal *multimodal;
  // How many.
  size_t multimodal_len;
  // Prompt embeddings: the raw little-endian tensor, row by row; NULL without them.
  const uint8_t *embeds;
  // Bytes of the tensor.
  size_t embeds_len;
  // Bytes of one row; not 0 where there are embeddings.
  size_t embeds_row;
} kvsched_extras;

// What an index holds.
typedef struct kvsched_index_stats_row {
  // Distinct blocks.
  uint64_t blocks;
  // Blocks that wait for an unknown parent.
  uint64_t pending;
  // Bytes allocated.
  uint64_t bytes;
  // Blocks forgotten for want of budget: if more than 0, matches may be too short.
  uint64_t evicted;
} kvsched_index_stats_row;

// What came of a message, a replay's message or the passing of time.
typedef struct kvsched_ingested {
  // Ask the engine for a replay from this message on, now; only if `has_replay_from`.
  uint64_t replay_from;
  // Messages that could be applied now.
  uint64_t batches;
  // Blocks that the endpoint did not hold before.
  uint64_t stored;
  // Blocks that it no longer holds.
  uint64_t removed;
  // Blocks that it holds and the index does not know: not taken, or impossible to name.
  uint64_t refused;
  // Events of unknown types, passed over.
  uint64_t unknown_events;
  // 1 if `replay_from` is set.
  uint32_t has_replay_from;
  // 1 if the message was known already.
  uint32_t duplicate;
  // 1 if the engine has started anew, so that all it held was forgotten first.
  uint32_t restarted;
  // 1 if the engine said that its cache is empty.
  uint32_t cleared;
} kvsched_ingested;

// How far the picture of an endpoint's cache can be believed.
typedef struct kvsched_trust_report {
  // Since when, in nanoseconds on the caller's clock.
  uint64_t since_ns;
  // `KVSCHED_TRUST_…`.
  uint32_t trust;
} kvsched_trust_report;

// What was sent to an endpoint and has not come back.
typedef struct kvsched_outstanding_work {
  // Prompt tokens to compute of requests without a first token.
  uint64_t prefill_tokens;
  // KV that all of them will have added when they end: uncached prompt and expected output.
  uint64_t kv_tokens;
  // Requests sent and not finished.
  uint32_t requests;
  // Those of them that have had their first token.
  uint32_t decoding;
} kvsched_outstanding_work;

// What is known of a request besides its prompt. All zero: nothing.
typedef struct kvsched_request {
  // Now, in nanoseconds on the caller's clock, which is one for all calls.
  uint64_t now_ns;
  // Time to the first token it must keep; 0 for none.
  uint64_t ttft_slo_ns;
  // Time per output token it must keep; 0 for none.
  uint64_t tpot_slo_ns;
  // Requests a second expected for the prefix it shares; 0 where unknown.
  double prefix_demand;
  // The conversation it belongs to; NULL for none.
  struct kvsched_str session;
  // The hashes of the prompt's blocks, from `kvsched_hasher_hash` or elsewhere, where the caller has
  // them already: `tokens` may then be NULL. NULL: they are computed of the tokens.
  const uint64_t *hashes;
  // How many.
  size_t hashes_len;
  // The prompt as it is written, where no tokenizer is at hand: it is taken for the tokens that
  // `kvsched_text_tokens` makes of it, and `tokens` has to be empty. NULL: there are tokens or hashes.
  struct kvsched_str text;
  // `KVSCHED_REQUEST_…`, or-ed: which of the fields below are set.
  uint32_t flags;
  // The adapter it asks for, numbered as in the candidates' rows.
  uint32_t lora_id;
  // The endpoint its session is pinned to.
  uint32_t pinned;
  // The endpoint already chosen for another stage of it.
  uint32_t near;
  // Output tokens expected; 0 where unknown.
  uint32_t expected_output_tokens;
} kvsched_request;

// An endpoint that may be chosen, and what it is doing. Zeros: an idle one.
typedef struct kvsched_candidate {
  // Who.
  uint32_t endpoint;
  // Requests that wait for their first scheduling (`vllm:num_requests_waiting`).
  uint32_t waiting_requests;
  // Requests in the running batch (`vllm:num_requests_running`).
  uint32_t running_requests;
  // Requests routed here and not yet finished, by the caller's own count.
  uint32_t in_flight_requests;
  // Share of the KV cache in use, 0 to 1 (`vllm:kv_cache_usage_perc`).
  double kv_usage;
  // KV cache size in tokens; 0 where unknown.
  uint64_t kv_capacity_tokens;
  // KV in the cache, in use or kept for reuse, in tokens; 0 where unknown.
  uint64_t resident_tokens;
  // Prompt tokens routed here and not yet prefilled, without cached ones.
  uint64_t queued_prefill_tokens;
  // Prompt tokens computed for requests routed here lately, without cached ones.
  uint64_t recent_prefill_tokens;
  // Prefill speed in tokens a second; 0 where unknown.
  double prefill_tokens_per_sec;
  // When these figures were true, in nanoseconds on the caller's clock.
  uint64_t observed_at_ns;
  // When a request of which nothing was cached was last routed here.
  uint64_t last_cold_at_ns;
  // 1 if `last_cold_at_ns` is set, 0 if not.
  uint32_t has_last_cold_at;
  // How many LoRA adapters fit at once; 0 where it serves none.
  uint32_t lora_slots;
  // How many adapters running requests use: the next so many of `lora_ids`.
  uint32_t lora_active;
  // How many adapters waiting requests want: the next so many after those.
  uint32_t lora_waiting;
} kvsched_candidate;

// Where a request goes, and how sure that was.
typedef struct kvsched_decision {
  // Its final score, 0 to 1, higher is better.
  double score;
  // The best score of an endpoint not taken.
  double runner_up_score;
  // The endpoint to send the request to.
  uint32_t endpoint;
  // The endpoint with `runner_up_score`.
  uint32_t runner_up;
  // 1 if there is a runner-up, 0 if not.
  uint32_t has_runner_up;
  // Leading prompt blocks it was expected to serve from cache.
  uint32_t matched_blocks;
  // Full blocks of the prompt that could have been served from cache at best.
  uint32_t prompt_blocks;
  // How many candidates passed all filters.
  uint32_t candidates;
  // With `KVSCHED_REQUEST_RECORD` and a ledger: what `kvsched_first_token` and `kvsched_finish` are to
  // be told; else 0.
  uint64_t ticket;
} kvsched_decision;

// What became of one candidate.
typedef struct kvsched_ranked {
  // Its final score, 0 to 1, higher is better.
  double score;
  // Who.
  uint32_t endpoint;
  // `KVSCHED_RANKED_…`, or-ed.
  uint32_t flags;
  // Leading prompt blocks it holds in any tier.
  uint32_t matched_blocks;
  // Those of them that each tier serves, being the fastest that holds them.
  uint32_t tier_blocks[KVSCHED_TIERS];
} kvsched_ranked;

// The request that a custom scorer rates candidates for.
typedef struct kvsched_scored_request {
  // Now, in nanoseconds on the caller's clock.
  uint64_t now_ns;
  // Length of the prompt.
  uint32_t prompt_tokens;
  // Tokens a block.
  uint32_t block_size;
  // Output tokens expected; 0 where unknown.
  uint32_t expected_output_tokens;
} kvsched_scored_request;

// A candidate as a custom scorer sees it: what it holds of the prompt, and what it is doing,
// brought up to date by the ledger if there is one.
typedef struct kvsched_scored_row {
  // Who.
  uint32_t endpoint;
  // Leading prompt blocks it holds in any tier.
  uint32_t matched_blocks;
  // Prompt tokens that it would have to compute.
  uint32_t uncached_tokens;
  // Requests that wait there.
  uint32_t waiting_requests;
  // Requests in its batch.
  uint32_t running_requests;
  // Requests sent there and not finished.
  uint32_t in_flight_requests;
  // Share of its KV cache in use, 0 to 1.
  double kv_usage;
  // Prompt tokens sent there and not yet computed.
  uint64_t queued_prefill_tokens;
} kvsched_scored_row;

// See `kvsched_scorer`.
typedef void (*kvsched_score_fn)(void *context,
                                 const struct kvsched_scored_request *request,
                                 const struct kvsched_scored_row *rows,
                                 size_t rows_len,
                                 double *scores);

// A scorer of the caller's, called once a request for all candidates.
//
// `score` writes a score from 0 to 1 for every row, higher is better; one that is left alone, not finite
// or out of range counts as neutral. It is called by whatever thread routes, by several at a time, and
// must not unwind (a C++ exception must not leave it) or call the same scheduler. `context` is
// handed to it as it is and has to live as long as the scheduler.
typedef struct kvsched_scorer {
  // The name it goes by in configurations and explanations.
  struct kvsched_str name;
  // What its scores weigh, where there is no configuration to say so; above 0.
  double weight;
  // The function.
  kvsched_score_fn score;
  // The caller's.
  void *context;
} kvsched_scorer;

// How a scheduler is made. All zero: the cost model in seconds, and caches known from events.
typedef struct kvsched_settings {
  // The name of another router's policy, such as "llm-d" or "dynamo"; NULL for none.
  struct kvsched_str preset;
  // An `EndpointPickerConfig`, in YAML or JSON, of at most 65,536 bytes; NULL for none. Not together
  // with a preset.
  struct kvsched_str config;
  // Which of the configuration's profiles; NULL where it has only one.
  struct kvsched_str profile;
  // For engines that announce nothing: blocks of one endpoint's KV cache. What is cached is then
  // learned from the scheduler's own decisions, and events are passed over. 0: from events.
  uint32_t history_blocks;
  // How long an unused block is then believed to stay; 0: an hour.
  uint64_t history_lease_ns;
  // How long a recorded prompt is expected where it was sent, though no event has told of it yet; 0:
  // two seconds; `UINT64_MAX`: not at all.
  uint64_t speculation_ns;
  // Keeps a ledger of what was recorded and has not come back, by which load rows are brought up to
  // date: requests that nobody finishes count for so long. 0: no ledger.
  uint64_t in_flight_lease_ns;
  // Most bytes the index may take, at least 65,536; 0: no limit.
  uint64_t byte_budget;
  // A content hasher, by which the blocks of an endpoint are named if its engine turns out to hash
  // otherwise than the scheduler's hasher: every endpoint then has a doctor, who says why
  // (`kvsched_diagnose`). NULL: nobody checks. May be freed after the call.
  const struct kvsched_hasher *fallback;
  // Scorers of the caller's. With `config` they are plugins by their names, which it weighs; without,
  // they are all that rates candidates. Not together with a preset.
  const struct kvsched_scorer *scorers;
  // How many.
  size_t scorers_len;
} kvsched_settings;

// What a scheduler has seen since it was made.
typedef struct kvsched_stats {
  // Endpoints it knows now.
  uint64_t endpoints;
  // Messages applied.
  uint64_t batches;
  // Replays asked for.
  uint64_t replays;
  // Messages that were known already.
  uint64_t duplicates;
  // Engine restarts.
  uint64_t restarts;
  // Events of unknown types.
  uint64_t unknown_events;
  // Blocks stored that their endpoint did not hold before.
  uint64_t stored;
  // Blocks removed.
  uint64_t removed;
  // Blocks that an endpoint holds and the index does not know.
  uint64_t refused;
} kvsched_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Adds an endpoint: data-parallel rank `rank` of the engine called `name`, 0 where there is only
// one. `endpoint` becomes its number, which names it from now on; numbers of removed endpoints
// are used again.
//
// Fails with `NAME_TAKEN`, with `FULL` after 65,535, or with `INVALID_ARGUMENT` without a name.
//
// # Safety
//
// `scheduler` is a handle, `name` readable, `endpoint` and `error` (unless NULL) writable.
kvsched_status kvsched_endpoint_add(const struct kvsched_scheduler *scheduler,
                                    struct kvsched_str name,
                                    uint32_t rank,
                                    uint32_t *endpoint,
                                    struct kvsched_error *error);

// Forgets an endpoint, its labels and everything it holds.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` is a handle, `error` NULL or writable.
kvsched_status kvsched_endpoint_remove(const struct kvsched_scheduler *scheduler,
                                       uint32_t endpoint,
                                       struct kvsched_error *error);

// The number of rank `rank` of the engine called `name`.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// As `kvsched_endpoint_add`.
kvsched_status kvsched_endpoint_find(const struct kvsched_scheduler *scheduler,
                                     struct kvsched_str name,
                                     uint32_t rank,
                                     uint32_t *endpoint,
                                     struct kvsched_error *error);

// The numbers of all endpoints, rising. `len` is also written where `endpoints_cap` is too small
// (`BUFFER_TOO_SMALL`).
//
// # Safety
//
// `scheduler` is a handle; `endpoints` has room for `endpoints_cap` numbers; `len` and `error` (unless
// NULL) are writable.
kvsched_status kvsched_endpoint_list(const struct kvsched_scheduler *scheduler,
                                     uint32_t *endpoints,
                                     size_t endpoints_cap,
                                     size_t *len,
                                     struct kvsched_error *error);

// The name of an endpoint's engine: `len` bytes without a NUL. `len` is also written where `name_cap` is
// too small (`BUFFER_TOO_SMALL`).
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` is a handle; `name` has room for `name_cap` bytes, `len` and `error` (unless NULL)
// are writable.
kvsched_status kvsched_endpoint_name(const struct kvsched_scheduler *scheduler,
                                     uint32_t endpoint,
                                     char *name,
                                     size_t name_cap,
                                     size_t *len,
                                     struct kvsched_error *error);

// Says how many blocks an endpoint's KV cache holds, where a scheduler with a history was told another
// number for all (`vllm:cache_config_info`). One that knows caches from events passes it over.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` is a handle, `error` NULL or writable.
kvsched_status kvsched_endpoint_set_cache_blocks(const struct kvsched_scheduler *scheduler,
                                                 uint32_t endpoint,
                                                 uint32_t blocks,
                                                 struct kvsched_error *error);

// Sets a label of an endpoint (its role, zone, rack), in place of what it was: what label filters
// and topology scorers read.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` is a handle, `key` and `value` are readable, `error` is NULL or writable.
kvsched_status kvsched_endpoint_set_label(const struct kvsched_scheduler *scheduler,
                                          uint32_t endpoint,
                                          struct kvsched_str key,
                                          struct kvsched_str value,
                                          struct kvsched_error *error);

// A hasher that reproduces vLLM's own block hashes.
//
// `version` is the engine's ("0.33.0"), `algorithm` its `--prefix-caching-hash-algo` ("sha256"),
// `seed` its `PYTHONHASHSEED`, NULL where that is unset. `block_size` is the engine's, in tokens.
// The handle in `out` is the caller's to free with `kvsched_hasher_free`.
//
// Fails with `SCHEME` if these hashes cannot be reproduced, `INVALID_ARGUMENT` for a block size
// out of range.
//
// # Safety
//
// Texts are readable, `out` and `error` (unless NULL) writable.
kvsched_status kvsched_hasher_new_vllm(struct kvsched_str version,
                                       struct kvsched_str algorithm,
                                       struct kvsched_str seed,
                                       size_t block_size,
                                       struct kvsched_hasher **out,
                                       struct kvsched_error *error);

// A hasher of kvsched's own content scheme, for engines whose hashes cannot be computed or need not
// be: a scheduler names their blocks by the tokens that their events carry. Several times faster
// than an engine's hashes. `secret` are bytes that tenants do not know, 16 or more of them; all
// replicas that exchange hashes share them.
//
// Fails with `SCHEME` for a name or secret of more than 4096 bytes, `INVALID_ARGUMENT` for a
// block size out of range.
//
// # Safety
//
// `model` and `secret_len` bytes at `secret` are readable, `out` and `error` (unless NULL)
// writable.
kvsched_status kvsched_hasher_new_content(struct kvsched_str model,
                                          const uint8_t *secret,
                                          size_t secret_len,
                                          size_t block_size,
                                          struct kvsched_hasher **out,
                                          struct kvsched_error *error);

// The hashes of all full blocks of a prompt, in order. `len` becomes how many there are, also
// where `hashes_cap` is too small for them (`BUFFER_TOO_SMALL`, nothing else is written). A
// prompt of `n` tokens has at most `n / block_size` of them.
//
// `extras` may be NULL. Any number of threads may use one hasher at a time. O(tokens).
//
// # Safety
//
// The arrays are as long as said; `len` and `error` (unless NULL) are writable; outputs do not
// overlap inputs.
kvsched_status kvsched_hasher_hash(const struct kvsched_hasher *hasher,
                                   const uint32_t *tokens,
                                   size_t tokens_len,
                                   const struct kvsched_extras *extras,
                                   uint64_t *hashes,
                                   size_t hashes_cap,
                                   size_t *len,
                                   struct kvsched_error *error);

// Stand-ins for the tokens of a text, where no tokenizer is at hand: each is three of its bytes. For
// content hashers and schedulers with a history, which recognise prompts by their beginnings; engines'
// events are of real tokens. `len` is also written where `tokens_cap` is too small
// (`BUFFER_TOO_SMALL`).
//
// # Safety
//
// `text` is readable, `tokens` has room for `tokens_cap` tokens, `len` and `error` (unless NULL) are
// writable.
kvsched_status kvsched_text_tokens(struct kvsched_str text,
                                   uint32_t *tokens,
                                   size_t tokens_cap,
                                   size_t *len,
                                   struct kvsched_error *error);

// Frees a hasher and sets `*hasher` to NULL. NULL, or a pointer to NULL, is passed over.
// Schedulers made with it keep what they need.
//
// # Safety
//
// `*hasher` is NULL or a handle that nobody uses any more.
kvsched_status kvsched_hasher_free(struct kvsched_hasher **hasher);

// A new history: `blocks` is how many an endpoint's KV cache holds, `lease_ns` how long one that is
// not used is believed to stay. The handle in `out` is the caller's to free with
// `kvsched_history_free`.
//
// Fails with `INVALID_ARGUMENT` if either is 0.
//
// # Safety
//
// `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_history_new(uint32_t blocks,
                                   uint64_t lease_ns,
                                   struct kvsched_history **out,
                                   struct kvsched_error *error);

// Frees a history and sets `*history` to NULL. NULL, or a pointer to NULL, is passed over.
//
// # Safety
//
// `*history` is NULL or a handle that nobody uses any more.
kvsched_status kvsched_history_free(struct kvsched_history **history);

// Says that a prompt of these block hashes was sent to `endpoint`.
//
// # Safety
//
// `history` and `scratch` are handles; `hashes_len` hashes are readable; `error` is NULL or writable.
kvsched_status kvsched_history_record(const struct kvsched_history *history,
                                      const struct kvsched_scratch *scratch,
                                      uint32_t endpoint,
                                      const uint64_t *hashes,
                                      size_t hashes_len,
                                      uint64_t now_ns,
                                      struct kvsched_error *error);

// How many leading blocks of a prompt every endpoint probably holds at `now_ns`; rows and lengths as
// `kvsched_index_match`.
//
// # Safety
//
// As `kvsched_index_match`.
kvsched_status kvsched_history_match(const struct kvsched_history *history,
                                     const struct kvsched_scratch *scratch,
                                     const uint64_t *hashes,
                                     size_t hashes_len,
                                     uint64_t now_ns,
                                     uint32_t *blocks,
                                     size_t blocks_cap,
                                     size_t *len,
                                     struct kvsched_error *error);

// Forgets all of `endpoint`.
//
// # Safety
//
// `history` is a handle, `error` NULL or writable.
kvsched_status kvsched_history_clear(const struct kvsched_history *history,
                                     uint32_t endpoint,
                                     struct kvsched_error *error);

// A new index of blocks of `block_size` tokens, in at most `byte_budget` bytes, 65,536 or more; 0 for
// no limit. The handle in `out` is the caller's to free with `kvsched_index_free`.
//
// Fails with `INVALID_ARGUMENT` for sizes out of range.
//
// # Safety
//
// `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_index_new(uint32_t block_size,
                                 size_t byte_budget,
                                 struct kvsched_index **out,
                                 struct kvsched_error *error);

// Frees an index and sets `*index` to NULL. NULL, or a pointer to NULL, is passed over.
//
// # Safety
//
// `*index` is NULL or a handle that nobody uses any more.
kvsched_status kvsched_index_free(struct kvsched_index **index);

// Says that `endpoint` holds consecutive blocks in `tier`, behind the block `parent` or, if that is NULL,
// from a prompt's first block on.
//
// Fails with `INVALID_ARGUMENT` for an endpoint of 65,535 or more or a tier of `KVSCHED_TIERS` or more,
// and if the blocks contradict what is known of their parents.
//
// # Safety
//
// `index` is a handle; `parent` is NULL or readable; `hashes_len` hashes are readable; `error` is NULL
// or writable.
kvsched_status kvsched_index_store(const struct kvsched_index *index,
                                   uint32_t endpoint,
                                   uint32_t tier,
                                   const uint64_t *parent,
                                   const uint64_t *hashes,
                                   size_t hashes_len,
                                   struct kvsched_error *error);

// Says that `endpoint` no longer holds blocks in `tier`, in any order. Those that it does not hold are
// passed over.
//
// Fails as `kvsched_index_store`.
//
// # Safety
//
// As `kvsched_index_store`.
kvsched_status kvsched_index_remove(const struct kvsched_index *index,
                                    uint32_t endpoint,
                                    uint32_t tier,
                                    const uint64_t *hashes,
                                    size_t hashes_len,
                                    struct kvsched_error *error);

// Says that `endpoint` holds nothing any more, in any tier.
//
// # Safety
//
// `index` is a handle, `error` NULL or writable.
kvsched_status kvsched_index_clear(const struct kvsched_index *index,
                                   uint32_t endpoint,
                                   struct kvsched_error *error);

// How many leading blocks of a prompt every endpoint holds, by endpoint number: `hashes` are the
// prompt's, as `kvsched_hasher_hash` gives them. `len` becomes how many rows there are, also where
// `blocks_cap` is too small for them (`BUFFER_TOO_SMALL`); endpoints beyond hold nothing. Warm,
// it allocates nothing.
//
// # Safety
//
// `index` and `scratch` are handles; the arrays are as long as said; `len` and `error` (unless NULL)
// are writable.
kvsched_status kvsched_index_match(const struct kvsched_index *index,
                                   const struct kvsched_scratch *scratch,
                                   const uint64_t *hashes,
                                   size_t hashes_len,
                                   uint32_t *blocks,
                                   size_t blocks_cap,
                                   size_t *len,
                                   struct kvsched_error *error);

// What the index holds.
//
// # Safety
//
// `index` is a handle, `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_index_stats(const struct kvsched_index *index,
                                   struct kvsched_index_stats_row *out,
                                   struct kvsched_error *error);

// Writes the index down. Matching goes on meanwhile. To be read by `kvsched_snapshot_read`, and restored
// by `kvsched_restore_new_index`.
//
// # Safety
//
// `index` is a handle, `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_index_snapshot(const struct kvsched_index *index,
                                      struct kvsched_snapshot **out,
                                      struct kvsched_error *error);

// Takes in one message of an engine's event stream at `now_ns`: its sequence number (the second
// frame of the socket's message, eight bytes, big-endian) and its payload (the third), as they
// came. Bytes that are no events are no error: the message counts as missing, and is to be asked
// for again.
//
// `out` may be NULL, but then nobody learns that a replay is needed. A scheduler with a history
// passes events over. Fails with `UNKNOWN_ENDPOINT`.
//
// Messages of one endpoint come from one thread at a time; threads may take in messages of
// different endpoints side by side.
//
// # Safety
//
// `scheduler` is a handle, `payload_len` bytes at `payload` are readable, `out` and `error` are
// NULL or writable.
kvsched_status kvsched_ingest(const struct kvsched_scheduler *scheduler,
                              uint32_t endpoint,
                              uint64_t sequence,
                              const uint8_t *payload,
                              size_t payload_len,
                              uint64_t now_ns,
                              struct kvsched_ingested *out,
                              struct kvsched_error *error);

// Takes in a message of a socket that several engines publish to, each under a topic (the message's
// first frame) of the form `kv@NAME@MODEL`: `kvsched_ingest` for rank `rank` of the engine called
// NAME, whose number becomes `*endpoint`, for a replay and the like. `endpoint` may be NULL.
//
// Fails with `INVALID_ARGUMENT` for a topic of another form, `UNKNOWN_ENDPOINT` if none has that name.
//
// # Safety
//
// As `kvsched_ingest`; `topic` is readable, `endpoint` NULL or writable.
kvsched_status kvsched_ingest_topic(const struct kvsched_scheduler *scheduler,
                                    struct kvsched_str topic,
                                    uint32_t rank,
                                    uint64_t sequence,
                                    const uint8_t *payload,
                                    size_t payload_len,
                                    uint64_t now_ns,
                                    uint32_t *endpoint,
                                    struct kvsched_ingested *out,
                                    struct kvsched_error *error);

// Takes in one message of the replay that an earlier call asked for. The engine ends a replay with
// sequence `UINT64_MAX`; hand that in too.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// As `kvsched_ingest`.
kvsched_status kvsched_replayed(const struct kvsched_scheduler *scheduler,
                                uint32_t endpoint,
                                uint64_t sequence,
                                const uint8_t *payload,
                                size_t payload_len,
                                uint64_t now_ns,
                                struct kvsched_ingested *out,
                                struct kvsched_error *error);

// Lets time pass for an endpoint's stream: gives up on a replay that does not come, finds an
// engine silent. Call it every second or so.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` is a handle, `out` and `error` are NULL or writable.
kvsched_status kvsched_tick(const struct kvsched_scheduler *scheduler,
                            uint32_t endpoint,
                            uint64_t now_ns,
                            struct kvsched_ingested *out,
                            struct kvsched_error *error);

// How far the picture of an endpoint's cache can be believed, and why, in words. `len` bytes of
// UTF-8 without a NUL; with `reason_cap` 0 the words are left out and `len` is their length.
//
// Fails with `UNKNOWN_ENDPOINT`, or `BUFFER_TOO_SMALL` if there is a `reason_cap` and it is too
// small: `len` is then what is needed.
//
// # Safety
//
// `scheduler` is a handle; `reason` has room for `reason_cap` bytes; `out`, `len` and `error`
// (unless NULL) are writable.
kvsched_status kvsched_trust(const struct kvsched_scheduler *scheduler,
                             uint32_t endpoint,
                             struct kvsched_trust_report *out,
                             char *reason,
                             size_t reason_cap,
                             size_t *len,
                             struct kvsched_error *error);

// What is wrong between an endpoint's engine and the scheduler, line by line, what matters most first,
// with what to do about it. Empty where nothing is known to be, or nobody checks
// (`kvsched_settings.fallback`). `len` bytes of UTF-8 without a NUL; `len` is also written where
// `text_cap` is too small (`BUFFER_TOO_SMALL`).
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` is a handle; `text` has room for `text_cap` bytes; `len` and `error` (unless NULL) are
// writable.
kvsched_status kvsched_diagnose(const struct kvsched_scheduler *scheduler,
                                uint32_t endpoint,
                                char *text,
                                size_t text_cap,
                                size_t *len,
                                struct kvsched_error *error);

// The number of the next message that an endpoint's stream waits for: all before it are known. 0 where
// there are no events.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` is a handle, `sequence` and `error` (unless NULL) are writable.
kvsched_status kvsched_next_sequence(const struct kvsched_scheduler *scheduler,
                                     uint32_t endpoint,
                                     uint64_t *sequence,
                                     struct kvsched_error *error);

// Says that a request has had its first token: its prompt is computed, and no longer counts as
// work before others. `ticket` is from `kvsched_route` or `kvsched_record`; 0, which they give where
// there is no ledger, is passed over.
//
// Fails with `UNKNOWN_TICKET` if the request has finished, or had its first token, or its lease has
// ended.
//
// # Safety
//
// `scheduler` is a handle, `error` NULL or writable.
kvsched_status kvsched_first_token(const struct kvsched_scheduler *scheduler,
                                   uint64_t ticket,
                                   struct kvsched_error *error);

// Says that a request has ended, well or badly, after `output_tokens` tokens. A `ticket` of 0 is passed
// over.
//
// Fails with `UNKNOWN_TICKET` if it has ended before, or its lease has.
//
// # Safety
//
// `scheduler` is a handle, `error` NULL or writable.
kvsched_status kvsched_finish(const struct kvsched_scheduler *scheduler,
                              uint64_t ticket,
                              uint32_t output_tokens,
                              uint64_t now_ns,
                              struct kvsched_error *error);

// What was sent to an endpoint and has not come back; all zero where there is no ledger.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` is a handle, `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_outstanding(const struct kvsched_scheduler *scheduler,
                                   uint32_t endpoint,
                                   struct kvsched_outstanding_work *out,
                                   struct kvsched_error *error);

// Chooses an endpoint for a prompt: the one call a request needs.
//
// `extras` may be NULL. `lora_ids` belongs to the counts in the candidates' rows, and may be NULL
// where they are 0. `ranked`, unless `ranked_cap` is 0, needs one row a candidate and is filled
// with all of them, the chosen one first, then by falling score, then those that a filter
// dropped. With `ranked_cap` 0, a warm call allocates nothing (but for multimodal items).
//
// Fails with `UNKNOWN_ENDPOINT`, `NO_ENDPOINT`, `PROMPT`, `BUSY`, `BUFFER_TOO_SMALL`; nothing is
// written then.
//
// # Safety
//
// `scheduler` and `scratch` are handles; the arrays are as long as said; `decision` and `error`
// (unless NULL) are writable; outputs do not overlap inputs.
kvsched_status kvsched_route(const struct kvsched_scheduler *scheduler,
                             const struct kvsched_scratch *scratch,
                             const struct kvsched_request *request,
                             const uint32_t *tokens,
                             size_t tokens_len,
                             const struct kvsched_extras *extras,
                             const struct kvsched_candidate *candidates,
                             size_t candidates_len,
                             const uint32_t *lora_ids,
                             size_t lora_ids_len,
                             struct kvsched_decision *decision,
                             struct kvsched_ranked *ranked,
                             size_t ranked_cap,
                             struct kvsched_error *error);

// Says that the prompt last routed or looked up with `scratch` was sent to `endpoint`. A scheduler
// with a history learns from it; one that knows caches from events expects the prompt there until
// they tell. With a ledger, the request counts as work under way from now on, until
// `kvsched_finish` of `*ticket`, which may be NULL and becomes 0 without a ledger.
//
// Fails with `UNKNOWN_ENDPOINT`.
//
// # Safety
//
// `scheduler` and `scratch` are handles, `ticket` and `error` are NULL or writable.
kvsched_status kvsched_record(const struct kvsched_scheduler *scheduler,
                              const struct kvsched_scratch *scratch,
                              uint32_t endpoint,
                              uint64_t now_ns,
                              uint64_t *ticket,
                              struct kvsched_error *error);

// How many of a prompt's tokens `endpoint` would serve from its cache. What the other endpoints
// hold of the prompt is then in the scratch too, for `kvsched_matches`; a decision it held is
// gone. O(prompt).
//
// Fails with `UNKNOWN_ENDPOINT` or `PROMPT`.
//
// # Safety
//
// `scheduler` and `scratch` are handles; the array is as long as said; `extras` is NULL or
// readable; `cached` and `error` (unless NULL) are writable.
kvsched_status kvsched_cached_tokens(const struct kvsched_scheduler *scheduler,
                                     const struct kvsched_scratch *scratch,
                                     uint32_t endpoint,
                                     const uint32_t *tokens,
                                     size_t tokens_len,
                                     const struct kvsched_extras *extras,
                                     uint32_t *cached,
                                     struct kvsched_error *error);

// How many leading blocks every endpoint holds of the prompt last routed or looked up with
// `scratch`, by endpoint number. `len` becomes how many rows there are, also where `blocks_cap`
// is too small for them (`BUFFER_TOO_SMALL`); endpoints beyond hold nothing.
//
// # Safety
//
// `scratch` is a handle; `blocks` has room for `blocks_cap` rows; `len` and `error` (unless NULL)
// are writable.
kvsched_status kvsched_matches(const struct kvsched_scratch *scratch,
                               uint32_t *blocks,
                               size_t blocks_cap,
                               size_t *len,
                               struct kvsched_error *error);

// The last decision made with `scratch`, line by line: every candidate with every score. `len`
// bytes of UTF-8 without a NUL; `len` is also written where `text_cap` is too small
// (`BUFFER_TOO_SMALL`).
//
// Fails with `NO_DECISION` if the last call with the scratch was not a `kvsched_route` that
// succeeded.
//
// # Safety
//
// `scheduler` and `scratch` are handles; `text` has room for `text_cap` bytes; `len` and `error`
// (unless NULL) are writable.
kvsched_status kvsched_explain(const struct kvsched_scheduler *scheduler,
                               const struct kvsched_scratch *scratch,
                               char *text,
                               size_t text_cap,
                               size_t *len,
                               struct kvsched_error *error);

// A scheduler whose endpoints' blocks go by the names that `hasher` gives. `settings` may be NULL. The
// handle in `out` is the caller's to free with `kvsched_scheduler_free`; the hasher may be freed
// before it.
//
// Fails with `CONFIG` if the preset is unknown, the configuration wrong or a setting out of range; the
// text names what was meant, perhaps.
//
// # Safety
//
// `hasher` is a handle, `settings` NULL or readable with its texts, `out` and `error` (unless
// NULL) writable.
kvsched_status kvsched_scheduler_new(const struct kvsched_hasher *hasher,
                                     const struct kvsched_settings *settings,
                                     struct kvsched_scheduler **out,
                                     struct kvsched_error *error);

// Frees a scheduler and sets `*scheduler` to NULL. NULL, or a pointer to NULL, is passed over.
//
// # Safety
//
// `*scheduler` is NULL or a handle that nobody uses any more.
kvsched_status kvsched_scheduler_free(struct kvsched_scheduler **scheduler);

// What the scheduler has seen so far.
//
// # Safety
//
// `scheduler` is a handle, `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_scheduler_stats(const struct kvsched_scheduler *scheduler,
                                       struct kvsched_stats *out,
                                       struct kvsched_error *error);

// A new scratch. `seed` breaks ties: the same seed and the same calls give the same decisions.
// The handle in `out` is the caller's to free with `kvsched_scratch_free`.
//
// # Safety
//
// `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_scratch_new(uint64_t seed,
                                   struct kvsched_scratch **out,
                                   struct kvsched_error *error);

// A new scratch that remembers up to about `memo_bytes` of prompts' beginnings for calls with
// `scheduler`: a system prompt that many requests share meets an engine's SHA-256 once. The hashes
// are the same as without. Of no use for content hashers, which are as fast.
//
// Fails with `INVALID_ARGUMENT` if `memo_bytes` is too little for a single prefix.
//
// # Safety
//
// `scheduler` is a handle; `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_scratch_new_with_memo(const struct kvsched_scheduler *scheduler,
                                             uint64_t seed,
                                             size_t memo_bytes,
                                             struct kvsched_scratch **out,
                                             struct kvsched_error *error);

// Frees a scratch and sets `*scratch` to NULL. NULL, or a pointer to NULL, is passed over.
//
// # Safety
//
// `*scratch` is NULL or a handle that nobody uses any more.
kvsched_status kvsched_scratch_free(struct kvsched_scratch **scratch);

// Writes down the fleet and all that its caches hold: for a second replica, or for this one after a
// restart. Routing goes on meanwhile; events and changes of the fleet wait. The handle in `out` is
// the caller's to free with `kvsched_snapshot_free`.
//
// Fails with `INVALID_ARGUMENT` for a scheduler with a history.
//
// # Safety
//
// `scheduler` is a handle, `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_snapshot_new(const struct kvsched_scheduler *scheduler,
                                    struct kvsched_snapshot **out,
                                    struct kvsched_error *error);

// The next bytes of a snapshot, at most `bytes_cap`. `len` becomes how many they are: 0 at the end.
//
// # Safety
//
// `snapshot` is a handle; `bytes` has room for `bytes_cap`; `len` and `error` (unless NULL) are
// writable.
kvsched_status kvsched_snapshot_read(const struct kvsched_snapshot *snapshot,
                                     uint8_t *bytes,
                                     size_t bytes_cap,
                                     size_t *len,
                                     struct kvsched_error *error);

// Frees a snapshot and sets `*snapshot` to NULL. NULL, or a pointer to NULL, is passed over.
//
// # Safety
//
// `*snapshot` is NULL or a handle that nobody uses any more.
kvsched_status kvsched_snapshot_free(struct kvsched_snapshot **snapshot);

// Begins to restore a scheduler from the bytes of a snapshot: hand them to `kvsched_restore_push`, then
// call `kvsched_restore_finish`. `hasher` and `settings` are as for `kvsched_scheduler_new`; the hasher
// has to give the same names as the one the snapshot was written with. The handle in `out` is the
// caller's to free with `kvsched_restore_free`.
//
// Fails as `kvsched_scheduler_new`, and with `CONFIG` for settings with a history.
//
// # Safety
//
// As `kvsched_scheduler_new`.
kvsched_status kvsched_restore_new(const struct kvsched_hasher *hasher,
                                   const struct kvsched_settings *settings,
                                   struct kvsched_restore **out,
                                   struct kvsched_error *error);

// As `kvsched_restore_new`, of an index: to be finished by `kvsched_restore_finish_index`.
//
// Fails as `kvsched_index_new`.
//
// # Safety
//
// `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_restore_new_index(uint32_t block_size,
                                         size_t byte_budget,
                                         struct kvsched_restore **out,
                                         struct kvsched_error *error);

// The next bytes of the snapshot, in pieces of any size.
//
// Fails with `SNAPSHOT` if they are not what a snapshot has there; the restore is then over.
//
// # Safety
//
// `restore` is a handle, `bytes_len` bytes at `bytes` are readable, `error` is NULL or writable.
kvsched_status kvsched_restore_push(const struct kvsched_restore *restore,
                                    const uint8_t *bytes,
                                    size_t bytes_len,
                                    struct kvsched_error *error);

// The scheduler, once all bytes have been pushed: its endpoints have the numbers they had
// (`kvsched_endpoint_list`). Ask each engine for a replay from where its stream stands
// (`kvsched_next_sequence`), or just subscribe and do what `kvsched_ingest` says. The restore is over,
// and is still to be freed.
//
// Fails with `SNAPSHOT` if bytes are missing or the snapshot's hasher was another.
//
// # Safety
//
// `restore` is a handle, `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_restore_finish(const struct kvsched_restore *restore,
                                      uint64_t now_ns,
                                      struct kvsched_scheduler **out,
                                      struct kvsched_error *error);

// The index, once all bytes have been pushed. The restore is over, and is still to be freed.
//
// Fails with `SNAPSHOT` if bytes are missing.
//
// # Safety
//
// As `kvsched_restore_finish`.
kvsched_status kvsched_restore_finish_index(const struct kvsched_restore *restore,
                                            struct kvsched_index **out,
                                            struct kvsched_error *error);

// Frees a restore and sets `*restore` to NULL. NULL, or a pointer to NULL, is passed over.
//
// # Safety
//
// `*restore` is NULL or a handle that nobody uses any more.
kvsched_status kvsched_restore_free(struct kvsched_restore **restore);

// A few words for a status, never NULL: for logs. The text of a particular failure, with its
// values and limits, is in the `kvsched_error` of the call.
//
// The text is static. Any thread may call at any time.
const char *kvsched_status_text(uint32_t status);

// The stream of an endpoint of which nothing is known. The handle in `out` is the caller's to free with
// `kvsched_stream_free`.
//
// Fails with `UNKNOWN_ENDPOINT` for a number above 65,535.
//
// # Safety
//
// `out` and `error` (unless NULL) are writable.
kvsched_status kvsched_stream_new(uint32_t endpoint,
                                  struct kvsched_stream **out,
                                  struct kvsched_error *error);

// Frees a stream and sets `*stream` to NULL. NULL, or a pointer to NULL, is passed over. What its
// endpoint holds stays in the index: see `kvsched_index_clear`.
//
// # Safety
//
// `*stream` is NULL or a handle that nobody uses any more.
kvsched_status kvsched_stream_free(struct kvsched_stream **stream);

// Takes in one message of the endpoint's event stream, as `kvsched_ingest` does; always the same
// `index`. Blocks are named as `hasher` names them; with NULL, as the engine does.
//
// # Safety
//
// `stream` and `index` are handles, `hasher` is NULL or one; `payload_len` bytes at `payload` are
// readable; `out` and `error` are NULL or writable.
kvsched_status kvsched_stream_receive(const struct kvsched_stream *stream,
                                      const struct kvsched_index *index,
                                      const struct kvsched_hasher *hasher,
                                      uint64_t sequence,
                                      const uint8_t *payload,
                                      size_t payload_len,
                                      uint64_t now_ns,
                                      struct kvsched_ingested *out,
                                      struct kvsched_error *error);

// Takes in one message of the replay that an earlier call asked for, as `kvsched_replayed` does.
//
// # Safety
//
// As `kvsched_stream_receive`.
kvsched_status kvsched_stream_replayed(const struct kvsched_stream *stream,
                                       const struct kvsched_index *index,
                                       const struct kvsched_hasher *hasher,
                                       uint64_t sequence,
                                       const uint8_t *payload,
                                       size_t payload_len,
                                       uint64_t now_ns,
                                       struct kvsched_ingested *out,
                                       struct kvsched_error *error);

// Lets time pass, as `kvsched_tick` does.
//
// # Safety
//
// As `kvsched_stream_receive`.
kvsched_status kvsched_stream_tick(const struct kvsched_stream *stream,
                                   const struct kvsched_index *index,
                                   const struct kvsched_hasher *hasher,
                                   uint64_t now_ns,
                                   struct kvsched_ingested *out,
                                   struct kvsched_error *error);

// The binary interface of the library that was linked: `KVSCHED_ABI` of its own header.
//
// Any thread may call at any time.
uint32_t kvsched_abi(void);

// Does nothing. That it exists is the point: who refers to it cannot be linked with a library
// of another binary interface, which has a symbol of another number.
void kvsched_abi_1(void);

// The release of the library that was linked, as "0.1.0". The text is static.
//
// Any thread may call at any time.
const char *kvsched_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KVSCHED_H */

#ifdef __cplusplus
extern "C" {
#endif

/** A NUL-terminated text as a kvsched_str; NULL stays NULL. */
static inline kvsched_str kvsched_text(const char *text) {
  kvsched_str result = {(const uint8_t *)text, text ? strlen(text) : 0};
  return result;
}

#ifdef __cplusplus
}
#endif
