package kvsched

import "time"

// Endpoint is the number of one engine process, or of one data-parallel rank of it.
type Endpoint uint32

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
	Prompt Prompt
	// Hashes are those of the prompt's blocks, from Hasher.Hash or elsewhere, where they are known
	// already: the prompt's tokens are then not looked at. Nil: they are computed.
	Hashes []uint64
	// Text is the prompt as it is written, where no tokenizer is at hand: it is taken for the tokens that
	// TextTokens makes of it. There are no others then. Empty: there are tokens or hashes.
	Text       string
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
