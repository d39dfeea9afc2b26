package kvsched

import (
	"runtime"
	"sync"
	"time"
)

// Endpoint is the number of one engine process, or of one data-parallel rank of it.
type Endpoint uint32

// Options say how a Scheduler is made. The zero value has llm-d's weights, and knows caches from
// events.
type Options struct {
	// Preset is the name of another router's policy, such as "llm-d" or "dynamo".
	Preset string
	// Config is the text of an EndpointPickerConfig, in YAML or JSON. Not together with a preset.
	Config string
	// Profile is which of the configuration's profiles; empty where it has only one.
	Profile string
	// HistoryBlocks is for engines that announce nothing: blocks of one endpoint's KV cache. What is
	// cached is then learned from the scheduler's own decisions. 0: from events.
	HistoryBlocks uint32
	// HistoryLease is how long an unused block is then believed to stay; 0: an hour.
	HistoryLease time.Duration
	// Speculation is how long a recorded prompt is expected where it was sent, though no event has
	// told of it yet. 0: two seconds; negative: not at all.
	Speculation time.Duration
	// InFlightLease keeps a ledger of what was recorded and has not come back, by which the
	// candidates' loads are brought up to date: requests that nobody finishes count for so long. 0: no
	// ledger.
	InFlightLease time.Duration
	// ByteBudget is the most bytes that the index may take, at least 65,536. 0: no limit.
	ByteBudget uint64
	// MemoBytes is how much of prompts' beginnings every concurrent call may remember, so that a
	// system prompt that many requests share is hashed once. 0: 4 MiB where blocks are named as an
	// engine names them, none where they are named by their content, which is as fast; negative: none.
	MemoBytes int
	// Seed breaks ties.
	Seed uint64
}

const defaultMemo = 4 << 20

// Ticket is a request that was recorded in a scheduler's ledger. The zero Ticket is of none, and may be
// redeemed like any other.
type Ticket uint64

// Outstanding is what was sent to an endpoint and has not come back.
type Outstanding struct {
	// Requests were sent and not finished; Decoding are those that have had their first token.
	Requests, Decoding uint32
	// PrefillTokens are to be computed of requests that have not.
	PrefillTokens uint64
	// KVTokens is what all of them will have added to the KV cache when they end.
	KVTokens uint64
}

// Prompt is what an engine's cache key is made of.
type Prompt struct {
	// Tokens are its token ids.
	Tokens []uint32
	// LoRA is the adapter it runs with; nil for none.
	LoRA *LoRA
	// CacheSalt is the request's; empty for none.
	CacheSalt string
	// Multimodal items, in order of their offset.
	Multimodal []MultimodalItem
	// Embeds are its embeddings; nil for none.
	Embeds *Embeds
}

// LoRA is an adapter as the engine knows it.
type LoRA struct {
	Name string
	// Path is exactly what the engine was given.
	Path string
	// ID is the engine's number.
	ID int64
}

// MultimodalItem is an image or a sound within a prompt.
type MultimodalItem struct {
	// Identifier is its content hash, or what its user called it.
	Identifier string
	// Offset is the position of its first token.
	Offset uint32
	// Length is how many tokens it takes.
	Length uint32
}

// Embeds are prompt embeddings: the raw little-endian tensor, row by row.
type Embeds struct {
	Bytes    []byte
	RowBytes int
}

// Candidate is an endpoint that may be chosen, and what it is doing. Zeros: an idle one.
type Candidate struct {
	Endpoint Endpoint
	// WaitingRequests is vllm:num_requests_waiting.
	WaitingRequests uint32
	// RunningRequests is vllm:num_requests_running.
	RunningRequests uint32
	// InFlightRequests counts what was routed there and is not finished.
	InFlightRequests uint32
	// KVUsage is vllm:kv_cache_usage_perc, 0 to 1.
	KVUsage float64
	// KVCapacityTokens is the size of the KV cache; 0 where unknown.
	KVCapacityTokens uint64
	// ResidentTokens is the KV in the cache; 0 where unknown.
	ResidentTokens uint64
	// QueuedPrefillTokens counts prompt tokens routed there and not yet prefilled.
	QueuedPrefillTokens uint64
	// RecentPrefillTokens counts prompt tokens computed there lately.
	RecentPrefillTokens uint64
	// PrefillTokensPerSec is the prefill speed; 0 where unknown.
	PrefillTokensPerSec float64
	// ObservedAt is when these figures were true, in nanoseconds on the caller's clock.
	ObservedAt int64
	// LastColdAt is when a request of which nothing was cached was last routed there.
	LastColdAt *int64
	// LoRASlots is how many adapters fit at once.
	LoRASlots uint32
	// LoRAActive are the adapters that running requests use.
	LoRAActive []uint32
	// LoRAWaiting are the adapters that waiting requests want.
	LoRAWaiting []uint32
}

// Request is a request to be routed.
type Request struct {
	Prompt     Prompt
	Candidates []Candidate
	// Now is in nanoseconds on the caller's clock, which is one for all calls.
	Now int64
	// Session is the conversation it belongs to.
	Session string
	// LoRA is the adapter it asks for, numbered as in the candidates.
	LoRA *uint32
	// Pinned is the endpoint its session is pinned to.
	Pinned *Endpoint
	// Near is the endpoint already chosen for another stage of it.
	Near *Endpoint
	// ExpectedOutputTokens; 0 where unknown.
	ExpectedOutputTokens uint32
	// PrefixDemand is how many requests a second are expected for its prefix; 0 where unknown.
	PrefixDemand float64
	// TTFT is the time to the first token it must keep; 0 for none.
	TTFT time.Duration
	// TPOT is the time per output token it must keep; 0 for none.
	TPOT time.Duration
	// Record says that it will be sent to whomever the call chooses: saves Scheduler.Record.
	Record bool
}

// Decision is where a request goes, and how sure that was.
type Decision struct {
	Endpoint Endpoint
	// Score is 0 to 1, higher is better.
	Score float64
	// MatchedBlocks are the leading blocks it was expected to serve from its cache.
	MatchedBlocks uint32
	// PromptBlocks are the blocks that could have been served from a cache at best.
	PromptBlocks uint32
	// Candidates is how many passed all filters.
	Candidates int
	// HasRunnerUp says whether there is a best endpoint not taken.
	HasRunnerUp   bool
	RunnerUp      Endpoint
	RunnerUpScore float64
	// Ticket is what FirstToken and Finish are to be told, if the request was recorded and there is a
	// ledger.
	Ticket Ticket
}

// Tiers of memory: of Ranked.TierBlocks, the first is the device, the next its host, a disk, a store
// that several share; the others are the embedder's.
const Tiers = 8

// Ranked is what became of one candidate.
type Ranked struct {
	Endpoint      Endpoint
	Score         float64
	MatchedBlocks uint32
	TierBlocks    [Tiers]uint32
	Chosen        bool
	// Dropped says that a filter did it.
	Dropped bool
}

// Ingested is what came of an engine's message.
type Ingested struct {
	// Batches is how many messages could be applied now.
	Batches uint64
	// Stored and Removed count blocks; Refused those that the index does not know.
	Stored, Removed, Refused uint64
	// UnknownEvents were passed over.
	UnknownEvents uint64
	// NeedsReplay says that the engine must be asked for a replay from ReplayFrom on.
	NeedsReplay bool
	ReplayFrom  uint64
	// Duplicate says that the message was known already.
	Duplicate bool
	// Restarted says that the engine started anew, and that all it held was forgotten.
	Restarted bool
	// Cleared says that the engine's cache is empty.
	Cleared bool
}

// Trust is how far the picture of an endpoint's cache can be believed.
type Trust uint32

// The degrees of trust, best first.
const (
	Exact Trust = iota
	Degraded
	Approximate
	Stale
)

// String is the word for it.
func (t Trust) String() string {
	return [...]string{"exact", "degraded", "approximate", "stale"}[min(t, Stale)]
}

// Report is how far an endpoint's picture can be believed, and why.
type Report struct {
	Trust  Trust
	Reason string
	// Since is in nanoseconds on the caller's clock.
	Since int64
}

// Stats is what a scheduler has seen since it was made.
type Stats struct {
	Endpoints, Batches, Replays, Duplicates, Restarts uint64
	UnknownEvents, Stored, Removed, Refused           uint64
}

// ReplayEnd is the sequence number that ends a replay.
const ReplayEnd = ^uint64(0)

// Scheduler decides which endpoint serves a prompt. Safe for concurrent use: routing waits for nobody,
// messages of different endpoints are taken in side by side.
type Scheduler struct {
	// Held by every method until it returns, so that neither Close nor the garbage collector frees
	// what a call uses.
	mu      sync.RWMutex
	own     owned
	cleanup runtime.Cleanup
	seed    uint64
	memo    int
}

// owned is what C allocated for a scheduler.
type owned struct {
	handle schedulerHandle
	free   *freelist
}

func (o owned) release() {
	for _, b := range o.free.list {
		freeScratch(b.scratch)
	}
	o.free.list = nil
	freeScheduler(o.handle)
}

// NewScheduler is a scheduler whose endpoints' blocks go by the names that hasher gives. The hasher may
// be closed before it. Close frees it.
func NewScheduler(hasher *Hasher, options Options) (*Scheduler, error) {
	hasher.mu.RLock()
	defer hasher.mu.RUnlock()
	if hasher.handle == nil {
		return nil, ErrClosed
	}
	handle, err := newScheduler(hasher.handle, &options)
	if err != nil {
		return nil, err
	}
	s := &Scheduler{own: owned{handle: handle, free: &freelist{}}, seed: options.Seed, memo: options.MemoBytes}
	if s.memo == 0 && hasher.announced {
		s.memo = defaultMemo
	}
	s.cleanup = runtime.AddCleanup(s, owned.release, s.own)
	return s, nil
}

// Close frees the scheduler, after the calls under way. Closing again does nothing.
func (s *Scheduler) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own.handle != nil {
		s.cleanup.Stop()
		s.own.release()
		s.own.handle = nil
	}
	return nil
}

// use holds the scheduler open until the function it returns is called.
func (s *Scheduler) use() (schedulerHandle, error) {
	collect()
	s.mu.RLock()
	if s.own.handle == nil {
		s.mu.RUnlock()
		return nil, ErrClosed
	}
	return s.own.handle, nil
}

// buffers are free ones, with a scratch.
func (s *Scheduler) buffers() (*buffers, error) {
	b, number := s.own.free.take()
	if b.scratch == nil {
		if err := b.open(s.own.handle, s.seed+uint64(number), s.memo); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// AddEndpoint adds rank 0 of the engine of this name. Numbers of removed endpoints are used again.
func (s *Scheduler) AddEndpoint(name string) (Endpoint, error) { return s.AddRank(name, 0) }

// AddRank adds a data-parallel rank of the engine of this name.
func (s *Scheduler) AddRank(name string, rank uint32) (Endpoint, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	return addEndpoint(handle, name, rank)
}

// RemoveEndpoint forgets an endpoint and everything it holds.
func (s *Scheduler) RemoveEndpoint(endpoint Endpoint) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return removeEndpoint(handle, endpoint)
}

// FindEndpoint is the number of a rank of the engine of this name.
func (s *Scheduler) FindEndpoint(name string, rank uint32) (Endpoint, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	return findEndpoint(handle, name, rank)
}

// EndpointName is the name of an endpoint's engine.
func (s *Scheduler) EndpointName(endpoint Endpoint) (string, error) {
	handle, err := s.use()
	if err != nil {
		return "", err
	}
	defer s.mu.RUnlock()
	return endpointName(handle, endpoint)
}

// SetLabel sets a label of an endpoint, such as its role or zone, for filters and scorers to read.
func (s *Scheduler) SetLabel(endpoint Endpoint, key, value string) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return setLabel(handle, endpoint, key, value)
}

// Ingest takes in one message of an engine's event stream: its sequence number and payload as the
// socket delivered them. The outcome says whether the engine must be asked for a replay. The payload
// is not kept.
func (s *Scheduler) Ingest(endpoint Endpoint, sequence uint64, payload []byte, now int64) (Ingested, error) {
	handle, err := s.use()
	if err != nil {
		return Ingested{}, err
	}
	defer s.mu.RUnlock()
	return ingest(handle, endpoint, sequence, payload, now)
}

// Replayed takes in one message of the replay that was asked for, up to the one with ReplayEnd.
func (s *Scheduler) Replayed(endpoint Endpoint, sequence uint64, payload []byte, now int64) (Ingested, error) {
	handle, err := s.use()
	if err != nil {
		return Ingested{}, err
	}
	defer s.mu.RUnlock()
	return replayed(handle, endpoint, sequence, payload, now)
}

// Tick lets time pass for an endpoint's stream: call it every second or so.
func (s *Scheduler) Tick(endpoint Endpoint, now int64) (Ingested, error) {
	handle, err := s.use()
	if err != nil {
		return Ingested{}, err
	}
	defer s.mu.RUnlock()
	return tick(handle, endpoint, now)
}

// Trust is how far the picture of an endpoint's cache can be believed, and why.
func (s *Scheduler) Trust(endpoint Endpoint) (Report, error) {
	handle, err := s.use()
	if err != nil {
		return Report{}, err
	}
	defer s.mu.RUnlock()
	return trust(handle, endpoint)
}

// Stats is what the scheduler has seen.
func (s *Scheduler) Stats() (Stats, error) {
	handle, err := s.use()
	if err != nil {
		return Stats{}, err
	}
	defer s.mu.RUnlock()
	return stats(handle)
}

// Route chooses an endpoint: one call of C, and nothing allocated once it is warm.
func (s *Scheduler) Route(request *Request) (Decision, error) {
	return s.route(request, nil, nil)
}

// RouteRanked is Route, and puts all candidates into ranked: the chosen one, the others by falling
// score, those that a filter dropped.
func (s *Scheduler) RouteRanked(request *Request, ranked *[]Ranked) (Decision, error) {
	return s.route(request, ranked, nil)
}

// RouteExplained is Route, and says why: every candidate with every score, line by line.
func (s *Scheduler) RouteExplained(request *Request) (Decision, string, error) {
	var why string
	decision, err := s.route(request, nil, &why)
	return decision, why, err
}

func (s *Scheduler) route(request *Request, ranked *[]Ranked, why *string) (Decision, error) {
	handle, err := s.use()
	if err != nil {
		return Decision{}, err
	}
	defer s.mu.RUnlock()
	b, err := s.buffers()
	if err != nil {
		return Decision{}, err
	}
	defer s.own.free.put(b)
	decision, err := b.route(handle, request, ranked)
	if err == nil && why != nil {
		*why, err = b.explain(handle)
	}
	return decision, err
}

// CachedTokens is how many of a prompt's tokens an endpoint would serve from its cache.
func (s *Scheduler) CachedTokens(endpoint Endpoint, prompt *Prompt) (int, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	b, err := s.buffers()
	if err != nil {
		return 0, err
	}
	defer s.own.free.put(b)
	return b.cachedTokens(handle, endpoint, prompt)
}

// Matches is how many leading blocks of a prompt every endpoint holds, by endpoint; those beyond hold
// none. Any one endpoint that exists has to be named.
func (s *Scheduler) Matches(any Endpoint, prompt *Prompt) ([]uint32, error) {
	handle, err := s.use()
	if err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	b, err := s.buffers()
	if err != nil {
		return nil, err
	}
	defer s.own.free.put(b)
	if _, err := b.cachedTokens(handle, any, prompt); err != nil {
		return nil, err
	}
	return b.matches()
}

// SetCacheBlocks says how many blocks an endpoint's cache holds, where a scheduler with a history was
// told another number for all.
func (s *Scheduler) SetCacheBlocks(endpoint Endpoint, blocks uint32) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return setCacheBlocks(handle, endpoint, blocks)
}

// FirstToken says that a request has had its first token: its prompt no longer counts as work before
// others.
func (s *Scheduler) FirstToken(ticket Ticket) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return firstToken(handle, ticket)
}

// Finish says that a request has ended, well or badly, after so many tokens.
func (s *Scheduler) Finish(ticket Ticket, outputTokens uint32, now int64) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return finish(handle, ticket, outputTokens, now)
}

// Outstanding is what was sent to an endpoint and has not come back, by the ledger.
func (s *Scheduler) Outstanding(endpoint Endpoint) (Outstanding, error) {
	handle, err := s.use()
	if err != nil {
		return Outstanding{}, err
	}
	defer s.mu.RUnlock()
	return outstanding(handle, endpoint)
}

// Record says that a prompt was sent to an endpoint, where that was not left to Route. A scheduler
// with a history learns from it, others expect it there until events tell; with a ledger, it counts as
// under way until Finish of the ticket.
func (s *Scheduler) Record(endpoint Endpoint, prompt *Prompt, now int64) (Ticket, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	b, err := s.buffers()
	if err != nil {
		return 0, err
	}
	defer s.own.free.put(b)
	if _, err := b.cachedTokens(handle, endpoint, prompt); err != nil {
		return 0, err
	}
	return b.record(handle, endpoint, now)
}
