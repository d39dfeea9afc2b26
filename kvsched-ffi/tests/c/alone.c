/* Index, streams and history without a scheduler. */
#include "check.h"

static void index_alone(void) {
  kvsched_index *index = NULL, *restored = NULL;
  kvsched_scratch *scratch = new_scratch(1);
  kvsched_snapshot *snapshot = NULL;
  kvsched_restore *restore = NULL;
  kvsched_index_stats_row stats;
  kvsched_error error;
  uint64_t hashes[4] = {11, 22, 33, 44};
  uint32_t blocks[8];
  size_t len;
  STATUS(kvsched_index_new(0, 0, &index, &error), INVALID_ARGUMENT);
  STATUS(kvsched_index_new(16, 5, &index, &error), INVALID_ARGUMENT);
  OK(kvsched_index_new(16, 0, &index, &error));
  OK(kvsched_index_store(index, 0, 0, NULL, hashes, 2, NULL));
  OK(kvsched_index_store(index, 3, 0, NULL, hashes, 3, NULL));
  OK(kvsched_index_store(index, 0, 1, &hashes[1], hashes + 2, 2, NULL));
  OK(kvsched_index_match(index, scratch, hashes, 4, blocks, 8, &len, NULL));
  EXPECT(len == 4 && blocks[0] == 4 && blocks[1] == 0 && blocks[3] == 3);
  STATUS(kvsched_index_match(index, scratch, hashes, 4, blocks, 1, &len, NULL), BUFFER_TOO_SMALL);
  EXPECT(len == 4);
  OK(kvsched_index_stats(index, &stats, NULL));
  EXPECT(stats.blocks == 4 && stats.pending == 0 && stats.bytes > 0 && stats.evicted == 0);
  OK(kvsched_index_snapshot(index, &snapshot, NULL));
  OK(kvsched_restore_new_index(16, 0, &restore, NULL));
  carry(snapshot, restore);
  OK(kvsched_restore_finish_index(restore, &restored, NULL));
  OK(kvsched_index_match(restored, scratch, hashes, 4, blocks, 8, &len, NULL));
  EXPECT(len == 4 && blocks[0] == 4 && blocks[3] == 3);
  OK(kvsched_index_remove(index, 0, 1, hashes + 3, 1, NULL));
  OK(kvsched_index_clear(index, 3, NULL));
  OK(kvsched_index_match(index, scratch, hashes, 4, blocks, 8, &len, NULL));
  EXPECT(blocks[0] == 3 && (len <= 3 || blocks[3] == 0));
  STATUS(kvsched_index_store(index, 0, KVSCHED_TIERS, NULL, hashes, 1, &error), INVALID_ARGUMENT);
  STATUS(kvsched_index_store(index, 70000, 0, NULL, hashes, 1, &error), UNKNOWN_ENDPOINT);
  STATUS(kvsched_index_remove(index, 0, 9, hashes, 1, &error), INVALID_ARGUMENT);
  STATUS(kvsched_index_clear(NULL, 0, &error), NULL_POINTER);
  STATUS(kvsched_index_match((kvsched_index *)scratch, scratch, hashes, 4, blocks, 8, &len, &error),
         WRONG_HANDLE);
  OK(kvsched_restore_free(&restore));
  OK(kvsched_snapshot_free(&snapshot));
  OK(kvsched_index_free(&restored));
  OK(kvsched_index_free(&index));
  OK(kvsched_index_free(&index));
  OK(kvsched_scratch_free(&scratch));
}

static void streams(void) {
  kvsched_index *index = NULL;
  kvsched_stream *stream = NULL;
  kvsched_hasher *hasher = hasher_of_16();
  kvsched_scratch *scratch = new_scratch(1);
  kvsched_ingested heard;
  kvsched_error error;
  uint8_t message[128];
  uint32_t tokens[16], blocks[2], i;
  uint64_t hash, engine = 77;
  size_t len, size = stored_message(message);
  for (i = 0; i < 16; i++) {
    tokens[i] = i;
  }
  OK(kvsched_hasher_hash(hasher, tokens, 16, NULL, &hash, 1, &len, NULL));
  OK(kvsched_index_new(16, 0, &index, NULL));
  OK(kvsched_stream_new(1, &stream, NULL));
  STATUS(kvsched_stream_new(1u << 16, &stream, &error), UNKNOWN_ENDPOINT);
  /* Named by its tokens; then, by another endpoint's stream, as the engine does. */
  OK(kvsched_stream_receive(stream, index, hasher, 0, message, size, 1, &heard, NULL));
  EXPECT(heard.batches == 1 && heard.stored == 1 && !heard.has_replay_from);
  OK(kvsched_index_match(index, scratch, &hash, 1, blocks, 2, &len, NULL));
  EXPECT(len == 2 && blocks[1] == 1);
  OK(kvsched_stream_receive(stream, index, hasher, 2, message, size, 2, &heard, NULL));
  EXPECT(heard.has_replay_from && heard.replay_from == 1 && heard.batches == 0);
  OK(kvsched_stream_replayed(stream, index, hasher, 1, message, size, 3, &heard, NULL));
  OK(kvsched_stream_replayed(stream, index, hasher, UINT64_MAX, NULL, 0, 4, &heard, NULL));
  OK(kvsched_stream_tick(stream, index, hasher, 5, &heard, NULL));
  OK(kvsched_stream_free(&stream));
  OK(kvsched_stream_free(&stream));
  OK(kvsched_index_clear(index, 1, NULL));
  OK(kvsched_stream_new(0, &stream, NULL));
  OK(kvsched_stream_receive(stream, index, NULL, 0, message, size, 1, NULL, NULL));
  OK(kvsched_index_match(index, scratch, &engine, 1, blocks, 2, &len, NULL));
  EXPECT(len >= 1 && blocks[0] == 1);
  STATUS(kvsched_stream_receive(stream, NULL, NULL, 0, message, size, 1, NULL, &error), NULL_POINTER);
  STATUS(kvsched_stream_receive(stream, index, (kvsched_hasher *)index, 0, message, size, 1, NULL, &error),
         WRONG_HANDLE);
  STATUS(kvsched_stream_receive(stream, index, NULL, 0, NULL, size, 1, NULL, &error), NULL_POINTER);
  OK(kvsched_stream_free(&stream));
  OK(kvsched_index_free(&index));
  OK(kvsched_scratch_free(&scratch));
  OK(kvsched_hasher_free(&hasher));
}

static void history_alone(void) {
  kvsched_history *history = NULL;
  kvsched_scratch *scratch = new_scratch(1);
  kvsched_error error;
  uint64_t hashes[3] = {1, 2, 3};
  uint32_t blocks[4];
  size_t len;
  STATUS(kvsched_history_new(0, 1, &history, &error), INVALID_ARGUMENT);
  STATUS(kvsched_history_new(1, 0, &history, &error), INVALID_ARGUMENT);
  OK(kvsched_history_new(100, 10, &history, &error));
  OK(kvsched_history_record(history, scratch, 1, hashes, 2, 5, NULL));
  OK(kvsched_history_match(history, scratch, hashes, 3, 6, blocks, 4, &len, NULL));
  EXPECT(len == 2 && blocks[0] == 0 && blocks[1] == 2);
  OK(kvsched_history_match(history, scratch, hashes, 3, 100, blocks, 4, &len, NULL));
  EXPECT(len < 2 || blocks[1] == 0); /* the lease is over */
  OK(kvsched_history_record(history, scratch, 1, hashes, 2, 200, NULL));
  OK(kvsched_history_clear(history, 1, NULL));
  OK(kvsched_history_match(history, scratch, hashes, 3, 200, blocks, 4, &len, NULL));
  EXPECT(len < 2 || blocks[1] == 0);
  STATUS(kvsched_history_record(history, scratch, 70000, hashes, 2, 5, &error), UNKNOWN_ENDPOINT);
  STATUS(kvsched_history_record(history, scratch, 1, NULL, 2, 5, &error), NULL_POINTER);
  OK(kvsched_history_free(&history));
  OK(kvsched_history_free(&history));
  OK(kvsched_scratch_free(&scratch));
}

void alone(void) {
  index_alone();
  streams();
  history_alone();
}
