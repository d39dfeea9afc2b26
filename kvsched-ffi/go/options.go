package kvsched

import "time"

// Options say how a Scheduler is made. The zero value thinks in seconds (preset "cost"), and knows caches from
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
	// Fallback is a content hasher, by which the blocks of an endpoint are named if its engine turns out
	// to hash otherwise than the scheduler's hasher: every endpoint then has a doctor, who says why
	// (Scheduler.Diagnose). Nil: nobody checks. It may be closed once the scheduler is there.
	Fallback *Hasher
	// MemoBytes is how much of prompts' beginnings every concurrent call may remember, so that a
	// system prompt that many requests share is hashed once. 0: 4 MiB where blocks are named as an
	// engine names them, none where they are named by their content, which is as fast; negative: none.
	MemoBytes int
	// Seed breaks ties.
	Seed uint64
}

// The memory of prefixes where nothing is said.
const defaultMemo = 4 << 20
