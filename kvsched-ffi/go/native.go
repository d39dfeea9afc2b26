package kvsched

// Cgo is in this file and native_parts.go: one call of C a method.

/*
#cgo CFLAGS: -I${SRCDIR}/native
#cgo LDFLAGS: ${SRCDIR}/native/libkvsched_ffi.a
#cgo linux LDFLAGS: -lm -ldl -lpthread
#cgo darwin LDFLAGS: -framework CoreFoundation -framework Security
#cgo noescape kvsched_route
#cgo nocallback kvsched_route
#cgo noescape kvsched_ingest
#cgo nocallback kvsched_ingest
#cgo noescape kvsched_cached_tokens
#cgo nocallback kvsched_cached_tokens
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
		e.Text = C.GoStringN(&text.text[0], C.int(text.len))
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

var nothing C.uint8_t

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

// buffers are what one call at a time needs: C's scratch, and Go memory that C sees during a call.
type buffers struct {
	scratch    scratchHandle
	pins       runtime.Pinner
	text       C.kvsched_error
	request    C.kvsched_request
	extras     *C.kvsched_extras // by itself, because C is handed a pointer to it: cgo looks at what is around
	items      []C.kvsched_multimodal
	candidates []C.kvsched_candidate
	loraIDs    []C.uint32_t
	ranked     []C.kvsched_ranked
	decision   C.kvsched_decision
	cached     C.uint32_t
}

func (b *buffers) open(handle schedulerHandle, seed uint64, memo int) error {
	var status C.kvsched_status
	if memo > 0 {
		status = C.kvsched_scratch_new_with_memo(handle, C.uint64_t(seed), C.size_t(memo), &b.scratch, &b.text)
	} else {
		status = C.kvsched_scratch_new(C.uint64_t(seed), &b.scratch, &b.text)
	}
	return failure("new scratch", status, &b.text)
}

// lend is the prompt's extras as C sees them until the pins are drawn; nil for none.
func (b *buffers) lend(p *Prompt) *C.kvsched_extras {
	if p.LoRA == nil && p.CacheSalt == "" && len(p.Multimodal) == 0 && p.Embeds == nil {
		return nil
	}
	if b.extras == nil {
		b.extras = new(C.kvsched_extras)
	}
	x := b.extras
	*x = C.kvsched_extras{cache_salt: pinned(&b.pins, p.CacheSalt)}
	if p.LoRA != nil {
		x.lora_name = pinned(&b.pins, p.LoRA.Name)
		if x.lora_name.data == nil {
			x.lora_name.data = (*C.uint8_t)(&nothing)
			b.pins.Pin(&nothing)
		}
		x.lora_path = pinned(&b.pins, p.LoRA.Path)
		x.lora_int_id = C.int64_t(p.LoRA.ID)
	}
	if len(p.Multimodal) > 0 {
		b.items = b.items[:0]
		for i := range p.Multimodal {
			item := &p.Multimodal[i]
			identifier := pinned(&b.pins, item.Identifier)
			if identifier.data == nil {
				identifier.data = (*C.uint8_t)(&nothing)
				b.pins.Pin(&nothing)
			}
			b.items = append(b.items, C.kvsched_multimodal{
				identifier: identifier, offset: C.uint32_t(item.Offset), length: C.uint32_t(item.Length),
			})
		}
		x.multimodal, x.multimodal_len = unsafe.SliceData(b.items), C.size_t(len(b.items))
		b.pins.Pin(x.multimodal)
	}
	if p.Embeds != nil && len(p.Embeds.Bytes) > 0 {
		x.embeds, x.embeds_len = u8s(p.Embeds.Bytes), C.size_t(len(p.Embeds.Bytes))
		x.embeds_row = C.size_t(p.Embeds.RowBytes)
		b.pins.Pin(x.embeds)
	}
	return x
}

func (b *buffers) fill(r *Request) {
	b.request = C.kvsched_request{
		now_ns: C.uint64_t(r.Now), ttft_slo_ns: C.uint64_t(max(r.TTFT, 0)),
		tpot_slo_ns: C.uint64_t(max(r.TPOT, 0)), prefix_demand: C.double(r.PrefixDemand),
		session:                pinned(&b.pins, r.Session),
		expected_output_tokens: C.uint32_t(r.ExpectedOutputTokens),
	}
	for _, option := range [...]struct {
		value *uint32
		flag  C.uint32_t
		to    *C.uint32_t
	}{
		{r.LoRA, C.KVSCHED_REQUEST_LORA, &b.request.lora_id},
		{(*uint32)(r.Pinned), C.KVSCHED_REQUEST_PINNED, &b.request.pinned},
		{(*uint32)(r.Near), C.KVSCHED_REQUEST_NEAR, &b.request.near},
	} {
		if option.value != nil {
			b.request.flags |= option.flag
			*option.to = C.uint32_t(*option.value)
		}
	}
	if r.Record {
		b.request.flags |= C.KVSCHED_REQUEST_RECORD
	}
	b.candidates, b.loraIDs = b.candidates[:0], b.loraIDs[:0]
	for i := range r.Candidates {
		c := &r.Candidates[i]
		row := C.kvsched_candidate{
			endpoint:               C.uint32_t(c.Endpoint),
			waiting_requests:       C.uint32_t(c.WaitingRequests),
			running_requests:       C.uint32_t(c.RunningRequests),
			in_flight_requests:     C.uint32_t(c.InFlightRequests),
			kv_usage:               C.double(c.KVUsage),
			kv_capacity_tokens:     C.uint64_t(c.KVCapacityTokens),
			resident_tokens:        C.uint64_t(c.ResidentTokens),
			queued_prefill_tokens:  C.uint64_t(c.QueuedPrefillTokens),
			recent_prefill_tokens:  C.uint64_t(c.RecentPrefillTokens),
			prefill_tokens_per_sec: C.double(c.PrefillTokensPerSec),
			observed_at_ns:         C.uint64_t(c.ObservedAt),
			lora_slots:             C.uint32_t(c.LoRASlots),
			lora_active:            C.uint32_t(len(c.LoRAActive)),
			lora_waiting:           C.uint32_t(len(c.LoRAWaiting)),
		}
		if c.LastColdAt != nil {
			row.has_last_cold_at, row.last_cold_at_ns = 1, C.uint64_t(*c.LastColdAt)
		}
		for _, list := range [...][]uint32{c.LoRAActive, c.LoRAWaiting} {
			for _, id := range list {
				b.loraIDs = append(b.loraIDs, C.uint32_t(id))
			}
		}
		b.candidates = append(b.candidates, row)
	}
}

// route makes the decision; all of its candidates go to *all unless that is nil.
func (b *buffers) route(handle schedulerHandle, r *Request, all *[]Ranked) (Decision, error) {
	extras := b.lend(&r.Prompt)
	b.fill(r)
	defer b.pins.Unpin()
	b.ranked = b.ranked[:0]
	if all != nil {
		b.ranked = append(b.ranked, make([]C.kvsched_ranked, len(r.Candidates))...)
	}
	tokens := r.Prompt.Tokens
	status := C.kvsched_route(handle, b.scratch, &b.request, u32s(tokens), C.size_t(len(tokens)), extras,
		unsafe.SliceData(b.candidates), C.size_t(len(b.candidates)),
		unsafe.SliceData(b.loraIDs), C.size_t(len(b.loraIDs)), &b.decision,
		unsafe.SliceData(b.ranked), C.size_t(len(b.ranked)), &b.text)
	if status != ok {
		return Decision{}, failure("route", status, &b.text)
	}
	if all != nil {
		*all = (*all)[:0]
		for i := range b.ranked {
			row := &b.ranked[i]
			to := Ranked{
				Endpoint: Endpoint(row.endpoint), Score: float64(row.score),
				MatchedBlocks: uint32(row.matched_blocks),
				Chosen:        row.flags&C.KVSCHED_RANKED_CHOSEN != 0,
				Dropped:       row.flags&C.KVSCHED_RANKED_DROPPED != 0,
			}
			for tier, blocks := range row.tier_blocks {
				to.TierBlocks[tier] = uint32(blocks)
			}
			*all = append(*all, to)
		}
	}
	d := &b.decision
	return Decision{
		Endpoint: Endpoint(d.endpoint), Score: float64(d.score), MatchedBlocks: uint32(d.matched_blocks),
		PromptBlocks: uint32(d.prompt_blocks), Candidates: int(d.candidates),
		HasRunnerUp: d.has_runner_up != 0, RunnerUp: Endpoint(d.runner_up),
		RunnerUpScore: float64(d.runner_up_score), Ticket: Ticket(d.ticket),
	}, nil
}

func (b *buffers) cachedTokens(handle schedulerHandle, endpoint Endpoint, p *Prompt) (int, error) {
	extras := b.lend(p)
	defer b.pins.Unpin()
	status := C.kvsched_cached_tokens(handle, b.scratch, C.uint32_t(endpoint),
		u32s(p.Tokens), C.size_t(len(p.Tokens)), extras, &b.cached, &b.text)
	return int(b.cached), failure("cached tokens", status, &b.text)
}

// matches reads what the last call found, by endpoint.
func (b *buffers) matches() ([]uint32, error) {
	out := make([]uint32, 16)
	for {
		var n C.size_t
		status := C.kvsched_matches(b.scratch, u32s(out), C.size_t(len(out)), &n, &b.text)
		if status != C.KVSCHED_STATUS_BUFFER_TOO_SMALL {
			return out[:min(int(n), len(out))], failure("matches", status, &b.text)
		}
		out = make([]uint32, n)
	}
}

func (b *buffers) record(handle schedulerHandle, endpoint Endpoint, now int64) (Ticket, error) {
	var ticket C.uint64_t
	status := C.kvsched_record(handle, b.scratch, C.uint32_t(endpoint), C.uint64_t(now), &ticket, &b.text)
	return Ticket(ticket), failure("record", status, &b.text)
}

func firstToken(handle schedulerHandle, ticket Ticket) error {
	var text C.kvsched_error
	return failure("first token", C.kvsched_first_token(handle, C.uint64_t(ticket), &text), &text)
}

func finish(handle schedulerHandle, ticket Ticket, tokens uint32, now int64) error {
	var text C.kvsched_error
	status := C.kvsched_finish(handle, C.uint64_t(ticket), C.uint32_t(tokens), C.uint64_t(now), &text)
	return failure("finish", status, &text)
}

func outstanding(handle schedulerHandle, endpoint Endpoint) (Outstanding, error) {
	var row C.kvsched_outstanding_work
	var text C.kvsched_error
	status := C.kvsched_outstanding(handle, C.uint32_t(endpoint), &row, &text)
	return Outstanding{
		Requests: uint32(row.requests), Decoding: uint32(row.decoding),
		PrefillTokens: uint64(row.prefill_tokens), KVTokens: uint64(row.kv_tokens),
	}, failure("outstanding", status, &text)
}

func (b *buffers) explain(handle schedulerHandle) (string, error) {
	return grown("explain", func(to *C.char, room C.size_t, n *C.size_t, text *C.kvsched_error) C.kvsched_status {
		return C.kvsched_explain(handle, b.scratch, to, room, n, text)
	})
}
