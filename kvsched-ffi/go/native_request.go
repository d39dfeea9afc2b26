package kvsched

// The part of cgo that requests go through: what they lend to C, and what comes back.

/*
#cgo noescape route
#cgo nocallback route
#cgo noescape kvsched_cached_tokens
#cgo nocallback kvsched_cached_tokens
#cgo noescape kvsched_matches
#cgo nocallback kvsched_matches
#cgo noescape kvsched_record
#cgo nocallback kvsched_record
#cgo noescape kvsched_first_token
#cgo nocallback kvsched_first_token
#cgo noescape kvsched_finish
#cgo nocallback kvsched_finish
#cgo noescape kvsched_outstanding
#cgo nocallback kvsched_outstanding
#include "kvsched.h"

// What a request points to is pinned. cgo cannot know that and looks at every pointer of every request, unless
// it sees none.
static inline kvsched_status route(const kvsched_scheduler *scheduler, kvsched_scratch *scratch,
                                   const uint64_t *request, const uint32_t *tokens, size_t tokens_len,
                                   const kvsched_extras *extras, const kvsched_candidate *candidates,
                                   size_t candidates_len, const uint32_t *lora_ids, size_t lora_ids_len,
                                   kvsched_decision *decision, kvsched_ranked *ranked, size_t ranked_len,
                                   kvsched_error *error) {
    return kvsched_route(scheduler, scratch, (const kvsched_request *)request, tokens, tokens_len, extras,
                         candidates, candidates_len, lora_ids, lora_ids_len, decision, ranked, ranked_len, error);
}
*/
import "C"

import (
	"runtime"
	"unsafe"
)

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
	if r.LoRA != nil {
		b.request.flags |= C.KVSCHED_REQUEST_LORA
		b.request.lora_id = C.uint32_t(*r.LoRA)
	}
	if r.Pinned != nil {
		b.request.flags |= C.KVSCHED_REQUEST_PINNED
		b.request.pinned = C.uint32_t(*r.Pinned)
	}
	if r.Near != nil {
		b.request.flags |= C.KVSCHED_REQUEST_NEAR
		b.request.near = C.uint32_t(*r.Near)
	}
	if r.Hashes != nil {
		b.request.hashes = &nothingNamed
		if len(r.Hashes) > 0 {
			b.request.hashes, b.request.hashes_len = u64s(r.Hashes), C.size_t(len(r.Hashes))
		}
		b.pins.Pin(b.request.hashes)
	}
	b.request.text = pinned(&b.pins, r.Text)
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
	status := C.route(handle, b.scratch, (*C.uint64_t)(unsafe.Pointer(&b.request)), u32s(tokens), C.size_t(len(tokens)), extras,
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

func (b *buffers) explain(handle schedulerHandle) (string, error) {
	return grown("explain", func(to *C.char, room C.size_t, n *C.size_t, text *C.kvsched_error) C.kvsched_status {
		return C.kvsched_explain(handle, b.scratch, to, room, n, text)
	})
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
