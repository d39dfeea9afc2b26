package kvsched

// Cgo is in this file, native_request.go and native_parts.go: one call of C a method.

/*
#cgo CFLAGS: -I${SRCDIR}/native
#cgo LDFLAGS: ${SRCDIR}/native/libkvsched_ffi.a
#cgo linux LDFLAGS: -lm -ldl -lpthread
#cgo darwin LDFLAGS: -framework CoreFoundation -framework Security
#cgo noescape kvsched_ingest
#cgo nocallback kvsched_ingest
#cgo noescape kvsched_ingest_topic
#cgo nocallback kvsched_ingest_topic
#cgo noescape kvsched_replayed
#cgo nocallback kvsched_replayed
#cgo noescape kvsched_tick
#cgo nocallback kvsched_tick
#cgo noescape kvsched_hasher_hash
#cgo nocallback kvsched_hasher_hash
#include "kvsched.h"

// A library of another binary interface does not have this symbol and cannot be linked.
static void (*const kvsched_go_abi)(void) = kvsched_abi_1;
static uint32_t kvsched_go_check(void) { kvsched_go_abi(); return kvsched_abi(); }
*/
import "C"

import (
	"runtime"
	"unsafe"
)

func init() {
	if got := C.kvsched_go_check(); got != C.KVSCHED_ABI {
		panic("kvsched: the linked library has another binary interface than its header")
	}
}

// Version is the release of the linked library.
func Version() string { return C.GoString(C.kvsched_version()) }

const ok = C.KVSCHED_STATUS_OK

// The kinds of failure; see the variables of these names without the C.
const (
	statusInvalid         = C.KVSCHED_STATUS_INVALID_ARGUMENT
	statusUTF8            = C.KVSCHED_STATUS_INVALID_UTF8
	statusScheme          = C.KVSCHED_STATUS_SCHEME
	statusConfig          = C.KVSCHED_STATUS_CONFIG
	statusSnapshot        = C.KVSCHED_STATUS_SNAPSHOT
	statusUnknownEndpoint = C.KVSCHED_STATUS_UNKNOWN_ENDPOINT
	statusNameTaken       = C.KVSCHED_STATUS_NAME_TAKEN
	statusFull            = C.KVSCHED_STATUS_FULL
	statusTicket          = C.KVSCHED_STATUS_UNKNOWN_TICKET
	statusPrompt          = C.KVSCHED_STATUS_PROMPT
	statusNoEndpoint      = C.KVSCHED_STATUS_NO_ENDPOINT
)

// failure is the error of a status that is not ok.
func failure(call string, status C.kvsched_status, text *C.kvsched_error) error {
	if status == ok {
		return nil
	}
	e := &Error{Op: call, kind: kindOf(uint32(status))}
	if text != nil && text.len > 0 {
		// Not C.GoStringN, for which every call's text would have to be on the heap.
		e.Text = string(unsafe.Slice((*byte)(unsafe.Pointer(&text.text[0])), text.len))
	}
	if e.Text == "" {
		e.Text = C.GoString(C.kvsched_status_text(C.uint32_t(status)))
	}
	return e
}

// cstr lends a text to C for one call.
func cstr(s string) C.kvsched_str {
	if s == "" {
		return C.kvsched_str{}
	}
	return C.kvsched_str{data: (*C.uint8_t)(unsafe.StringData(s)), len: C.size_t(len(s))}
}

// present is cstr for texts that may be empty, but are there.
func present(s string) C.kvsched_str {
	text := cstr(s)
	if text.data == nil {
		text.data = (*C.uint8_t)(&nothing)
	}
	return text
}

var (
	nothing      C.uint8_t
	nothingNamed C.uint64_t
)

func u32s(s []uint32) *C.uint32_t { return (*C.uint32_t)(unsafe.SliceData(s)) }
func u8s(s []byte) *C.uint8_t     { return (*C.uint8_t)(unsafe.SliceData(s)) }

type (
	hasherHandle    = *C.kvsched_hasher
	schedulerHandle = *C.kvsched_scheduler
	scratchHandle   = *C.kvsched_scratch
)

func newVLLMHasher(version, algorithm string, seed *string, blockSize int) (hasherHandle, error) {
	var handle hasherHandle
	var text C.kvsched_error
	var seedText C.kvsched_str
	if seed != nil {
		seedText = present(*seed)
	}
	status := C.kvsched_hasher_new_vllm(present(version), present(algorithm), seedText,
		C.size_t(max(blockSize, 0)), &handle, &text)
	return handle, failure("new hasher", status, &text)
}

func newContentHasher(model string, secret []byte, blockSize int) (hasherHandle, error) {
	var handle hasherHandle
	var text C.kvsched_error
	status := C.kvsched_hasher_new_content(present(model), u8s(secret), C.size_t(len(secret)),
		C.size_t(max(blockSize, 0)), &handle, &text)
	return handle, failure("new hasher", status, &text)
}

func freeHasher(handle hasherHandle)       { C.kvsched_hasher_free(&handle) }
func freeScheduler(handle schedulerHandle) { C.kvsched_scheduler_free(&handle) }
func freeScratch(handle scratchHandle)     { C.kvsched_scratch_free(&handle) }

func (b *buffers) hash(handle hasherHandle, prompt *Prompt, out []uint64) (int, error) {
	extras := b.lend(prompt)
	defer b.pins.Unpin()
	var needed C.size_t
	status := C.kvsched_hasher_hash(handle, u32s(prompt.Tokens), C.size_t(len(prompt.Tokens)), extras,
		(*C.uint64_t)(unsafe.SliceData(out)), C.size_t(len(out)), &needed, &b.text)
	return int(needed), failure("hash", status, &b.text)
}

func newScheduler(hasher hasherHandle, o *Options) (schedulerHandle, error) {
	var handle schedulerHandle
	var text C.kvsched_error
	err := withSettings(o, func(settings *C.kvsched_settings) error {
		return failure("new scheduler", C.kvsched_scheduler_new(hasher, settings, &handle, &text), &text)
	})
	return handle, err
}

// withSettings lends the options to C for one call.
func withSettings(o *Options, call func(*C.kvsched_settings) error) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	var settings C.kvsched_settings
	settings.preset = pinned(&pins, o.Preset)
	settings.config = pinned(&pins, o.Config)
	settings.profile = pinned(&pins, o.Profile)
	settings.history_blocks = C.uint32_t(o.HistoryBlocks)
	settings.history_lease_ns = C.uint64_t(max(o.HistoryLease, 0))
	settings.speculation_ns = C.uint64_t(max(o.Speculation, 0))
	if o.Speculation < 0 {
		settings.speculation_ns = C.UINT64_MAX
	}
	settings.in_flight_lease_ns = C.uint64_t(max(o.InFlightLease, 0))
	settings.byte_budget = C.uint64_t(o.ByteBudget)
	if o.Fallback != nil {
		o.Fallback.mu.RLock()
		defer o.Fallback.mu.RUnlock()
		if o.Fallback.handle == nil {
			return ErrClosed
		}
		settings.fallback = o.Fallback.handle
	}
	return call(&settings)
}

// pinned lends a text to C inside of a struct.
func pinned(pins *runtime.Pinner, s string) C.kvsched_str {
	text := cstr(s)
	if text.data != nil {
		pins.Pin(text.data)
	}
	return text
}

func addEndpoint(handle schedulerHandle, name string, rank uint32) (Endpoint, error) {
	var endpoint C.uint32_t
	var text C.kvsched_error
	status := C.kvsched_endpoint_add(handle, present(name), C.uint32_t(rank), &endpoint, &text)
	return Endpoint(endpoint), failure("add endpoint", status, &text)
}

func removeEndpoint(handle schedulerHandle, endpoint Endpoint) error {
	var text C.kvsched_error
	status := C.kvsched_endpoint_remove(handle, C.uint32_t(endpoint), &text)
	return failure("remove endpoint", status, &text)
}

func findEndpoint(handle schedulerHandle, name string, rank uint32) (Endpoint, error) {
	var endpoint C.uint32_t
	var text C.kvsched_error
	status := C.kvsched_endpoint_find(handle, present(name), C.uint32_t(rank), &endpoint, &text)
	return Endpoint(endpoint), failure("find endpoint", status, &text)
}

func endpointName(handle schedulerHandle, endpoint Endpoint) (string, error) {
	return grown("endpoint name", func(to *C.char, room C.size_t, n *C.size_t, text *C.kvsched_error) C.kvsched_status {
		return C.kvsched_endpoint_name(handle, C.uint32_t(endpoint), to, room, n, text)
	})
}

func setLabel(handle schedulerHandle, endpoint Endpoint, key, value string) error {
	var text C.kvsched_error
	status := C.kvsched_endpoint_set_label(handle, C.uint32_t(endpoint), present(key), present(value), &text)
	return failure("set label", status, &text)
}

func setCacheBlocks(handle schedulerHandle, endpoint Endpoint, blocks uint32) error {
	var text C.kvsched_error
	status := C.kvsched_endpoint_set_cache_blocks(handle, C.uint32_t(endpoint), C.uint32_t(blocks), &text)
	return failure("set cache blocks", status, &text)
}

// grown reads a text whose length is known only when it is read.
func grown(call string, read func(*C.char, C.size_t, *C.size_t, *C.kvsched_error) C.kvsched_status) (string, error) {
	var text C.kvsched_error
	for buffer := make([]byte, 1024); ; {
		var n C.size_t
		status := read((*C.char)(unsafe.Pointer(unsafe.SliceData(buffer))), C.size_t(len(buffer)), &n, &text)
		if status == C.KVSCHED_STATUS_BUFFER_TOO_SMALL {
			buffer = make([]byte, n)
			continue
		}
		if status != ok {
			return "", failure(call, status, &text)
		}
		return string(buffer[:n]), nil
	}
}

func ingestedOf(row *C.kvsched_ingested) Ingested {
	return Ingested{
		Batches: uint64(row.batches), Stored: uint64(row.stored), Removed: uint64(row.removed),
		Refused: uint64(row.refused), UnknownEvents: uint64(row.unknown_events),
		NeedsReplay: row.has_replay_from != 0, ReplayFrom: uint64(row.replay_from),
		Duplicate: row.duplicate != 0, Restarted: row.restarted != 0, Cleared: row.cleared != 0,
	}
}

func ingest(handle schedulerHandle, endpoint Endpoint, sequence uint64, payload []byte, now int64) (Ingested, error) {
	var row C.kvsched_ingested
	var text C.kvsched_error
	status := C.kvsched_ingest(handle, C.uint32_t(endpoint), C.uint64_t(sequence), u8s(payload),
		C.size_t(len(payload)), C.uint64_t(now), &row, &text)
	return ingestedOf(&row), failure("ingest", status, &text)
}

func ingestTopic(handle schedulerHandle, topic string, rank uint32, sequence uint64, payload []byte, now int64) (Endpoint, Ingested, error) {
	var row C.kvsched_ingested
	var text C.kvsched_error
	var endpoint C.uint32_t
	status := C.kvsched_ingest_topic(handle, present(topic), C.uint32_t(rank), C.uint64_t(sequence), u8s(payload),
		C.size_t(len(payload)), C.uint64_t(now), &endpoint, &row, &text)
	return Endpoint(endpoint), ingestedOf(&row), failure("ingest", status, &text)
}

func replayed(handle schedulerHandle, endpoint Endpoint, sequence uint64, payload []byte, now int64) (Ingested, error) {
	var row C.kvsched_ingested
	var text C.kvsched_error
	status := C.kvsched_replayed(handle, C.uint32_t(endpoint), C.uint64_t(sequence), u8s(payload),
		C.size_t(len(payload)), C.uint64_t(now), &row, &text)
	return ingestedOf(&row), failure("replayed", status, &text)
}

func tick(handle schedulerHandle, endpoint Endpoint, now int64) (Ingested, error) {
	var row C.kvsched_ingested
	var text C.kvsched_error
	status := C.kvsched_tick(handle, C.uint32_t(endpoint), C.uint64_t(now), &row, &text)
	return ingestedOf(&row), failure("tick", status, &text)
}

func trust(handle schedulerHandle, endpoint Endpoint) (Report, error) {
	var row C.kvsched_trust_report
	why, err := grown("trust", func(to *C.char, room C.size_t, n *C.size_t, text *C.kvsched_error) C.kvsched_status {
		return C.kvsched_trust(handle, C.uint32_t(endpoint), &row, to, room, n, text)
	})
	return Report{Trust: Trust(row.trust), Reason: why, Since: int64(row.since_ns)}, err
}

func stats(handle schedulerHandle) (Stats, error) {
	var row C.kvsched_stats
	var text C.kvsched_error
	status := C.kvsched_scheduler_stats(handle, &row, &text)
	return Stats{
		Endpoints: uint64(row.endpoints), Batches: uint64(row.batches), Replays: uint64(row.replays),
		Duplicates: uint64(row.duplicates), Restarts: uint64(row.restarts),
		UnknownEvents: uint64(row.unknown_events), Stored: uint64(row.stored),
		Removed: uint64(row.removed), Refused: uint64(row.refused),
	}, failure("stats", status, &text)
}
