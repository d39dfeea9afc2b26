package kvsched

// The rest of cgo: the parts without a scheduler, and snapshots.

/*
#cgo noescape kvsched_index_match
#cgo nocallback kvsched_index_match
#cgo noescape kvsched_index_store
#cgo nocallback kvsched_index_store
#cgo noescape kvsched_index_remove
#cgo nocallback kvsched_index_remove
#cgo noescape kvsched_stream_receive
#cgo nocallback kvsched_stream_receive
#cgo noescape kvsched_stream_replayed
#cgo nocallback kvsched_stream_replayed
#cgo noescape kvsched_stream_tick
#cgo nocallback kvsched_stream_tick
#include "kvsched.h"
*/
import "C"

import "unsafe"

type (
	indexHandle    = *C.kvsched_index
	streamHandle   = *C.kvsched_stream
	snapshotHandle = *C.kvsched_snapshot
	restoreHandle  = *C.kvsched_restore
)

func u64s(s []uint64) *C.uint64_t { return (*C.uint64_t)(unsafe.SliceData(s)) }

func newIndex(blockSize uint32, byteBudget uint64) (indexHandle, error) {
	var handle indexHandle
	var text C.kvsched_error
	status := C.kvsched_index_new(C.uint32_t(blockSize), C.size_t(byteBudget), &handle, &text)
	return handle, failure("new index", status, &text)
}

func freeIndex(handle indexHandle)       { C.kvsched_index_free(&handle) }
func freeStream(handle streamHandle)     { C.kvsched_stream_free(&handle) }
func freeSnapshot(handle snapshotHandle) { C.kvsched_snapshot_free(&handle) }
func freeRestore(handle restoreHandle)   { C.kvsched_restore_free(&handle) }

func storeBlocks(handle indexHandle, endpoint Endpoint, tier uint32, parent *uint64, hashes []uint64) error {
	var text C.kvsched_error
	status := C.kvsched_index_store(handle, C.uint32_t(endpoint), C.uint32_t(tier), (*C.uint64_t)(parent),
		u64s(hashes), C.size_t(len(hashes)), &text)
	return failure("store", status, &text)
}

func removeBlocks(handle indexHandle, endpoint Endpoint, tier uint32, hashes []uint64) error {
	var text C.kvsched_error
	status := C.kvsched_index_remove(handle, C.uint32_t(endpoint), C.uint32_t(tier), u64s(hashes),
		C.size_t(len(hashes)), &text)
	return failure("remove", status, &text)
}

func clearBlocks(handle indexHandle, endpoint Endpoint) error {
	var text C.kvsched_error
	return failure("clear", C.kvsched_index_clear(handle, C.uint32_t(endpoint), &text), &text)
}

func indexStats(handle indexHandle) (IndexStats, error) {
	var row C.kvsched_index_stats_row
	var text C.kvsched_error
	status := C.kvsched_index_stats(handle, &row, &text)
	return IndexStats{
		Blocks: uint64(row.blocks), Pending: uint64(row.pending), Bytes: uint64(row.bytes),
		Evicted: uint64(row.evicted),
	}, failure("index stats", status, &text)
}

// match fills out, as far as it has room, and returns how many rows there are.
func (b *buffers) match(handle indexHandle, hashes []uint64, out []uint32) (int, error) {
	var n C.size_t
	status := C.kvsched_index_match(handle, b.scratch, u64s(hashes), C.size_t(len(hashes)),
		u32s(out), C.size_t(len(out)), &n, &b.text)
	return int(n), failure("match", status, &b.text)
}

func newStream(endpoint Endpoint) (streamHandle, error) {
	var handle streamHandle
	var text C.kvsched_error
	status := C.kvsched_stream_new(C.uint32_t(endpoint), &handle, &text)
	return handle, failure("new stream", status, &text)
}

func streamReceive(s streamHandle, i indexHandle, h hasherHandle, sequence uint64, payload []byte, now int64) (Ingested, error) {
	var row C.kvsched_ingested
	var text C.kvsched_error
	status := C.kvsched_stream_receive(s, i, h, C.uint64_t(sequence), u8s(payload), C.size_t(len(payload)),
		C.uint64_t(now), &row, &text)
	return ingestedOf(&row), failure("receive", status, &text)
}

func streamReplayed(s streamHandle, i indexHandle, h hasherHandle, sequence uint64, payload []byte, now int64) (Ingested, error) {
	var row C.kvsched_ingested
	var text C.kvsched_error
	status := C.kvsched_stream_replayed(s, i, h, C.uint64_t(sequence), u8s(payload), C.size_t(len(payload)),
		C.uint64_t(now), &row, &text)
	return ingestedOf(&row), failure("replayed", status, &text)
}

func streamTick(s streamHandle, i indexHandle, h hasherHandle, now int64) (Ingested, error) {
	var row C.kvsched_ingested
	var text C.kvsched_error
	status := C.kvsched_stream_tick(s, i, h, C.uint64_t(now), &row, &text)
	return ingestedOf(&row), failure("tick", status, &text)
}

func snapshotOf(handle schedulerHandle) (snapshotHandle, error) {
	var snapshot snapshotHandle
	var text C.kvsched_error
	return snapshot, failure("snapshot", C.kvsched_snapshot_new(handle, &snapshot, &text), &text)
}

func snapshotOfIndex(handle indexHandle) (snapshotHandle, error) {
	var snapshot snapshotHandle
	var text C.kvsched_error
	return snapshot, failure("snapshot", C.kvsched_index_snapshot(handle, &snapshot, &text), &text)
}

// readSnapshot fills to and returns how much there was: 0 at the end.
func readSnapshot(handle snapshotHandle, to []byte) (int, error) {
	var n C.size_t
	var text C.kvsched_error
	status := C.kvsched_snapshot_read(handle, u8s(to), C.size_t(len(to)), &n, &text)
	return int(n), failure("snapshot", status, &text)
}

func newRestore(hasher hasherHandle, o *Options) (restoreHandle, error) {
	var handle restoreHandle
	var text C.kvsched_error
	err := withSettings(o, func(settings *C.kvsched_settings) error {
		return failure("restore", C.kvsched_restore_new(hasher, settings, &handle, &text), &text)
	})
	return handle, err
}

func newRestoreIndex(blockSize uint32, byteBudget uint64) (restoreHandle, error) {
	var handle restoreHandle
	var text C.kvsched_error
	status := C.kvsched_restore_new_index(C.uint32_t(blockSize), C.size_t(byteBudget), &handle, &text)
	return handle, failure("restore", status, &text)
}

func pushRestore(handle restoreHandle, bytes []byte) error {
	var text C.kvsched_error
	return failure("restore", C.kvsched_restore_push(handle, u8s(bytes), C.size_t(len(bytes)), &text), &text)
}

func finishRestore(handle restoreHandle, now int64) (schedulerHandle, error) {
	var scheduler schedulerHandle
	var text C.kvsched_error
	status := C.kvsched_restore_finish(handle, C.uint64_t(now), &scheduler, &text)
	return scheduler, failure("restore", status, &text)
}

func finishRestoreIndex(handle restoreHandle) (indexHandle, error) {
	var index indexHandle
	var text C.kvsched_error
	status := C.kvsched_restore_finish_index(handle, &index, &text)
	return index, failure("restore", status, &text)
}

func nextSequence(handle schedulerHandle, endpoint Endpoint) (uint64, error) {
	var sequence C.uint64_t
	var text C.kvsched_error
	status := C.kvsched_next_sequence(handle, C.uint32_t(endpoint), &sequence, &text)
	return uint64(sequence), failure("next sequence", status, &text)
}

func listEndpoints(handle schedulerHandle) ([]Endpoint, error) {
	var text C.kvsched_error
	for all := make([]Endpoint, 64); ; {
		var n C.size_t
		status := C.kvsched_endpoint_list(handle, (*C.uint32_t)(unsafe.SliceData(all)), C.size_t(len(all)), &n, &text)
		if status != C.KVSCHED_STATUS_BUFFER_TOO_SMALL {
			return all[:min(int(n), len(all))], failure("endpoints", status, &text)
		}
		all = make([]Endpoint, n)
	}
}

func diagnose(handle schedulerHandle, endpoint Endpoint) (string, error) {
	return grown("diagnose", func(to *C.char, room C.size_t, n *C.size_t, text *C.kvsched_error) C.kvsched_status {
		return C.kvsched_diagnose(handle, C.uint32_t(endpoint), to, room, n, text)
	})
}

// TextTokens appends to out stand-ins for the tokens of a text, where no tokenizer is at hand: each is three
// of its bytes. For content hashers and schedulers with a history, which recognise prompts by their
// beginnings; engines' events are of real tokens.
func TextTokens(text string, out []uint32) ([]uint32, error) {
	var message C.kvsched_error
	var n C.size_t
	start := len(out)
	out = append(out, make([]uint32, len(text)/3)...)
	status := C.kvsched_text_tokens(present(text), u32s(out[start:]), C.size_t(len(out)-start), &n, &message)
	return out[:start+int(n)], failure("text tokens", status, &message)
}
